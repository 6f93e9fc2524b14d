//! `hallmark token --print`: the token request itself, for whoever sends it with something else.

use hallmark_client::{FormField, SignedAssertion, TokenRequest};
use serde_json::{Value, json};

use crate::cli::{
    args::RequestForm,
    consent::quoted,
    output::{Output, time},
};

/// The request alone on standard output, so that it can be piped; what to know of it beside.
pub(super) fn output(client: &str, signed: &SignedAssertion, form: RequestForm, json: bool) -> Output {
    let request = render(client, &signed.token_request, form);
    if json {
        return Output::json(&as_json(signed, form, &request));
    }
    let SignedAssertion { kid, alg, issued_at, expires_at, .. } = signed;
    let lifetime = expires_at.duration_since(*issued_at).unwrap_or_default().as_secs();
    let mut stderr = format!("signed for `{client}` with {alg}, key `{kid}`; nothing is sent\n");
    stderr += &format!("good until {} ({lifetime} s), and counts once: ", time(*expires_at));
    stderr += "print another one for the next access token\n";
    stderr += "whoever has it can use it meanwhile: keep it out of tickets and logs\n";
    Output { stdout: request, stderr }
}

fn as_json(signed: &SignedAssertion, form: RequestForm, request: &str) -> Value {
    let SignedAssertion { kid, alg, jti, expires_at, .. } = signed;
    let form = match form {
        RequestForm::Curl => "curl",
        RequestForm::Postman => "postman",
        RequestForm::Http => "http",
    };
    json!({ "form": form, "request": request, "kid": kid, "alg": alg, "jti": jti, "expires_at": time(*expires_at) })
}

fn render(client: &str, request: &TokenRequest, form: RequestForm) -> String {
    match form {
        RequestForm::Curl => curl(request),
        RequestForm::Postman => format!("{:#}\n", postman(client, request)),
        RequestForm::Http => http(request),
    }
}

/// For a POSIX shell. Curl is kept from changing the URL: it would read `[]{}` as patterns, and resolve dots.
fn curl(request: &TokenRequest) -> String {
    let TokenRequest { method, url, content_type, form, headers } = request;
    let mut words = vec!["curl --globoff --path-as-is".to_owned()];
    if method != "POST" {
        words.push(format!("--request {}", quoted(method)));
    }
    words.push(format!("--url {}", quoted(url)));
    words.push(format!("--header {}", quoted(&format!("Content-Type: {content_type}"))));
    words.extend(headers.iter().map(|FormField { name, value }| format!("--header {}", quoted(&header(name, value)))));
    // It encodes what is after the first `=`; the name must be so already.
    let fields = form.iter().map(|FormField { name, value }| format!("{}={value}", encoded(name)));
    words.extend(fields.map(|field| format!("--data-urlencode {}", quoted(&field))));
    words.join(" \\\n  ") + "\n"
}

/// A collection of format 2.1 with this one request: File > Import > Raw text.
fn postman(client: &str, request: &TokenRequest) -> Value {
    let TokenRequest { method, url, content_type, form, headers } = request;
    let pair = |name: &str, value: &str| json!({ "key": name, "value": value, "type": "text" });
    let content_type = std::iter::once(pair("Content-Type", content_type));
    let headers: Vec<_> = content_type.chain(headers.iter().map(|field| pair(&field.name, &field.value))).collect();
    let fields: Vec<_> = form.iter().map(|field| pair(&field.name, &field.value)).collect();
    json!({
        "info": { "name": format!("Hallmark: {client}"), "schema": POSTMAN_2_1 },
        "item": [{
            "name": format!("access token for {client}"),
            "request": {
                "method": method,
                "auth": { "type": "noauth" },
                "header": headers,
                "url": url,
                "body": { "mode": "urlencoded", "urlencoded": fields },
            },
        }],
    })
}

/// As it goes over the wire (RFC 9112), with its line ends.
fn http(request: &TokenRequest) -> String {
    let TokenRequest { method, url, content_type, form, headers } = request;
    let (authority, target) = split(url);
    let fields = form.iter().map(|FormField { name, value }| format!("{}={}", encoded(name), encoded(value)));
    let body = fields.collect::<Vec<_>>().join("&");
    let mut lines = vec![
        format!("{method} {target} HTTP/1.1"),
        header("Host", authority),
        header("Content-Type", content_type),
        header("Content-Length", &body.len().to_string()),
        // Whatever it is piped into ends with the answer then.
        header("Connection", "close"),
    ];
    lines.extend(headers.iter().map(|FormField { name, value }| header(name, value)));
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

/// Host and port, and the rest byte for byte.
fn split(url: &str) -> (&str, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or(rest);
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let slash = if target.starts_with('/') { "" } else { "/" };
    (authority.rsplit('@').next().unwrap_or(authority), format!("{slash}{target}"))
}

/// On one line, whatever is in it.
fn header(name: &str, value: &str) -> String {
    format!("{name}: {value}").chars().filter(|char| !char.is_control()).collect()
}

/// As `application/x-www-form-urlencoded` has it (URL Standard §5.2).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

const POSTMAN_2_1: &str = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json";

#[cfg(test)]
mod tests;
