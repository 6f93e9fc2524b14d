//! Reads a JWKS URL once, as an authorization server would.

use std::{error::Error as StdError, fs, path::Path, time::Duration};

use reqwest::{Certificate, Client, Response, Url, redirect};

use super::check::{Finding, HttpAnswer};
use crate::cli::Failure;

/// The answer, whatever it is; or what kept it away, which is a finding too. A [`Failure`] is one of this machine.
///
/// No redirects and no cookies, for several authorization servers take neither; no credentials, for there are none.
/// What the environment says of proxies holds, as the way out of many networks.
pub(super) async fn fetch(url: &str, ca: Option<&Path>) -> Result<Result<HttpAnswer, Finding>, Failure> {
    let http = http(ca)?;
    let parsed = Url::parse(url).map_err(|error| Failure::new(format!("this is no URL: `{url}`")).caused_by(&error))?;
    Ok(match read(&http, parsed).await {
        Ok(answer) => Ok(answer),
        Err(error) => Err(unreachable(error)),
    })
}

fn http(ca: Option<&Path>) -> Result<Client, Failure> {
    let mut builder = Client::builder()
        .user_agent(concat!("hallmark/", env!("CARGO_PKG_VERSION"), " (rehearsal)"))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT);
    if let Some(path) = ca {
        let fail = || Failure::new(format!("can't use --ca: `{}`", path.display()));
        let pem = fs::read(path).map_err(|error| fail().caused_by(&error))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| fail().caused_by(&error))?;
        if certificates.is_empty() {
            return Err(fail()
                .because("there is no certificate in it")
                .hint("it must be PEM: -----BEGIN CERTIFICATE-----"));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| Failure::new("can't set up HTTPS").caused_by(&error))
}

async fn read(http: &Client, url: Url) -> Result<HttpAnswer, reqwest::Error> {
    let response = http.get(url).header(reqwest::header::ACCEPT, "application/json").send().await?;
    let status = response.status().as_u16();
    let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        // They end up on a terminal.
        let value = String::from_utf8_lossy(value.as_bytes()).chars().filter(|char| !char.is_control()).collect();
        (name.as_str().to_owned(), value)
    };
    let headers = response.headers().iter().map(header).collect();
    Ok(HttpAnswer { status, headers, body: body(response).await? })
}

/// `None` where it is longer than [`LARGEST_BODY`].
async fn body(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn unreachable(error: reqwest::Error) -> Finding {
    let timeout = error.is_timeout();
    let error = error.without_url();
    let mut causes = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    let text = causes.join(": ");
    Finding::bad(format!("it can't be read: {text}"), reading_hint(&text, timeout))
}

/// By what the libraries say, for they do not sort it.
fn reading_hint(text: &str, timeout: bool) -> &'static str {
    let lower = text.to_lowercase();
    if lower.contains("certificate") || lower.contains("tls") {
        return "its certificate must be for this name, valid, and from an authority that verifiers trust; --ca FILE for one of your own";
    }
    if lower.contains("dns") || lower.contains("lookup") {
        return "does the name exist outside of your network? try: getent hosts NAME";
    }
    if timeout {
        return "nothing answered in time: a firewall, or an address that is reachable from inside only";
    }
    "is the JWKS listener, or the proxy before it, up? try: curl -v URL"
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// As patient as verifiers are.
const TIMEOUT: Duration = Duration::from_secs(10);
/// 48 RSA keys with certificates are below it, and what verifiers take is mostly less.
const LARGEST_BODY: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_it_away_is_told_apart() {
        let hints = [
            ("client error (Connect): invalid peer certificate: UnknownIssuer", false),
            ("client error (Connect): dns error: failed to lookup address information", false),
            ("operation timed out", true),
            ("client error (Connect): tcp connect error: Connection refused", false),
        ]
        .map(|(text, timeout)| reading_hint(text, timeout).split([':', ';']).next().unwrap_or_default());
        insta::assert_snapshot!(hints.join("\n"), @r"
        its certificate must be for this name, valid, and from an authority that verifiers trust
        does the name exist outside of your network? try
        nothing answered in time
        is the JWKS listener, or the proxy before it, up? try
        ");
    }

    #[tokio::test]
    async fn nobody_there_is_a_finding_and_no_failure() {
        // A port that was free a moment ago, on an address of this test's own.
        let free = std::net::TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap();
        let finding = fetch(&format!("http://{free}/jwks.json"), None).await.unwrap().unwrap_err();
        assert!(!finding.good && finding.what.starts_with("it can't be read: "), "{finding:?}");
        assert!(finding.hint.is_some());
    }

    #[tokio::test]
    async fn what_is_wrong_here_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("ca.pem");
        fs::write(&empty, "").unwrap();
        let text = async |url: &str, ca: Option<&Path>| fetch(url, ca).await.unwrap_err().render(false);
        assert!(text("https://a.example", Some(&empty)).await.contains("no certificate in it"));
        assert!(text("https://a.example", Some(&folder.path().join("none"))).await.contains("can't use --ca"));
        assert!(text("not a url", None).await.contains("this is no URL"));
    }
}
