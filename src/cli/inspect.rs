//! `hallmark inspect`: everything that is wrong with a JWT, for one kind of authorization server.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Read},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hallmark_core::{
    inspect::{
        Cited, Expectations, Finding, Inspection, KeySet, LARGEST_JWKS, LONGEST_JWT, Question, Severity, inspect,
    },
    profile::{Evidence, Profile},
    time::Timestamp,
};
use x509_cert::{Certificate, der::Encode};

use super::{Failure, USAGE, args::InspectArgs, output, urls::refuse_userinfo};
use crate::verifier::Verifier;

mod render;

pub(super) async fn run(args: InspectArgs, json: bool) -> Result<u8, Failure> {
    let profile = profile(&args.profile)?;
    let now = at(args.at.as_deref())?;
    let expect = expectations(&args)?;
    let text = jwt(&args.jwt)?;
    let (keys, seen) = match &args.jwks {
        Some(place) => keys(place, args.ca.as_deref()).await?,
        None => (None, Vec::new()),
    };
    let question = Question { profile: Some(profile), keys: keys.as_ref(), expect: &expect, now: timestamp(now) };
    let mut inspection = inspect(&text, question).map_err(|error| Failure::new(error.to_string()))?;
    inspection.findings.extend(seen);
    inspection.findings.sort_by_key(|finding| finding.severity);
    let output = render::output(&inspection, profile, now, json);
    output.print().map(|_| u8::from(inspection.has_errors()))
}

fn profile(name: &str) -> Result<&'static Profile, Failure> {
    Profile::find(name).ok_or_else(|| {
        let names: Vec<_> = Profile::names().collect();
        Failure::new(format!("there is no such profile: `{name}`"))
            .hint(format!("one of: {}", names.join(", ")))
            .with_exit_code(USAGE)
    })
}

fn at(text: Option<&str>) -> Result<SystemTime, Failure> {
    let Some(text) = text else { return Ok(output::now()) };
    let seconds = text.parse().ok().and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    seconds.or_else(|| humantime::parse_rfc3339_weak(text).ok()).ok_or_else(|| {
        Failure::new(format!("this is no time: `{text}`"))
            .hint("write it as 2026-11-22T05:00:00Z, or as seconds since 1970")
            .with_exit_code(USAGE)
    })
}

fn timestamp(time: SystemTime) -> Timestamp {
    let millis = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

fn expectations(args: &InspectArgs) -> Result<Expectations, Failure> {
    let elsewhere = [("issuer", &args.issuer), ("FHIR base", &args.fhir_base)];
    let elsewhere = elsewhere.into_iter().filter_map(|(what, url)| Some((what.to_owned(), url.clone()?)));
    Ok(Expectations {
        client_id: args.client_id.clone(),
        iss: args.iss.clone(),
        audiences: args.audiences.clone(),
        elsewhere: elsewhere.collect(),
        jwks_url: args.jwks_url.clone(),
        chain: args.certificate.as_deref().map(chain).transpose()?.unwrap_or_default(),
    })
}

fn chain(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let fail = || Failure::new(format!("can't use --certificate: `{}`", path.display()));
    let file = File::open(path).map_err(|error| fail().caused_by(&error))?;
    let pem = limited(file, LARGEST_JWKS).map_err(|error| fail().caused_by(&error))?;
    let chain = Certificate::load_pem_chain(&pem).map_err(|error| fail().caused_by(&error))?;
    let der: Result<Vec<_>, _> = chain.iter().map(Certificate::to_der).collect();
    der.map_err(|error| fail().caused_by(&error))
}

/// A little more than is looked at, so that what is too long is seen to be.
fn limited(source: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn jwt(argument: &str) -> Result<String, Failure> {
    let (name, bytes) = match argument.strip_prefix('@') {
        Some(path) => (path, File::open(path).and_then(|file| limited(file, LONGEST_JWT))),
        None if argument == "-" => ("standard input", limited(io::stdin().lock(), LONGEST_JWT)),
        None => return Ok(argument.to_owned()),
    };
    let bytes = bytes.map_err(|error| Failure::new(format!("can't read the JWT: `{name}`")).caused_by(&error))?;
    // What is no text becomes a finding.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The keys, and what a verifier would say of the place that they are at. A URL that can't be read is a finding too.
async fn keys(place: &str, ca: Option<&Path>) -> Result<(Option<KeySet>, Vec<Finding>), Failure> {
    let too_large = |error: hallmark_core::inspect::TooLarge| Failure::new(error.to_string());
    if !place.starts_with("http://") && !place.starts_with("https://") {
        let fail = |error: io::Error| Failure::new(format!("can't read the JWKS: `{place}`")).caused_by(&error);
        let document = File::open(place).and_then(|file| limited(file, LARGEST_JWKS)).map_err(fail)?;
        return Ok((Some(KeySet::parse(&document).map_err(too_large)?), Vec::new()));
    }
    refuse_userinfo("the URL of `--jwks`", place)?;
    let verifier = Verifier::new(ca).map_err(|error| Failure::new("can't fetch URLs").caused_by(&error))?;
    match verifier.fetch(place).await {
        Ok(seen) => {
            let findings = seen.findings.into_iter().map(|what| url_finding(Severity::Warning, what)).collect();
            Ok((Some(KeySet::parse(&seen.body).map_err(too_large)?), findings))
        }
        Err(error) => Ok((None, vec![url_finding(Severity::Error, format!("the JWKS URL {error}"))])),
    }
}

fn url_finding(severity: Severity, what: String) -> Finding {
    let hint =
        "serve it as Hallmark does, in plain HTTPS that verifiers can reach: hallmark jwks check CLIENT".to_owned();
    let rule = Cited { source: Cow::Borrowed("what verifiers were seen to do"), evidence: Evidence::Measured };
    Finding { severity, about: "jwks".to_owned(), what, hint, rule }
}

/// How many there are of each severity, in words.
fn counts(inspection: &Inspection) -> String {
    let count = |severity| inspection.findings.iter().filter(|finding| finding.severity == severity).count();
    let word = |severity: Severity| {
        let (count, name) = (count(severity), severity.as_str());
        (count > 0).then(|| format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
    };
    let words: Vec<_> = [Severity::Error, Severity::Warning, Severity::Note].into_iter().filter_map(word).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests;
