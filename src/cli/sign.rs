//! `hallmark sign`: one assertion.

use std::path::PathBuf;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_client::{FormField, SignRequest, SignedAssertion};
use serde_json::{Value, json};

use super::{
    Failure,
    args::SignArgs,
    connect::{As, connect, failure},
    output::{Output, time},
};

pub(super) async fn run(args: SignArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let client = args.client.clone();
    let signed = connect(connection, As::Workload)?.sign_assertion(request(args)).await;
    let signed = signed.map_err(|error| failure(&error, &client))?;
    if json { Output::json(&as_json(&signed)) } else { as_text(&client, &signed) }.print()
}

fn request(args: SignArgs) -> SignRequest {
    let mut request = SignRequest::new(args.client);
    request = request.alg(args.alg.unwrap_or_default()).audience(args.audience.unwrap_or_default());
    request = request.scope(args.scope.unwrap_or_default()).claims_json(args.claims.unwrap_or_default());
    match args.lifetime {
        Some(lifetime) => request.lifetime(lifetime),
        None => request,
    }
}

/// The assertion alone on standard output, so that it can be piped; what is in it beside.
fn as_text(client: &str, signed: &SignedAssertion) -> Output {
    let SignedAssertion { kid, alg, issued_at, expires_at, token_request, .. } = signed;
    let lifetime = expires_at.duration_since(*issued_at).unwrap_or_default().as_secs();
    let mut stderr = format!("signed for `{client}` with {alg}, key `{kid}`\n");
    stderr += &format!("good until {} ({lifetime} s), once, at {}\n", time(*expires_at), token_request.url);
    for (title, part) in ["header", "claims"].into_iter().zip(signed.assertion.split('.')) {
        stderr += &format!("{title}\n");
        for (name, value) in members(part) {
            stderr += &format!("  {name:<6} {value}\n");
        }
    }
    Output { stdout: format!("{}\n", signed.assertion), stderr }
}

fn as_json(signed: &SignedAssertion) -> Value {
    let fields = |fields: &[FormField]| -> Vec<Value> {
        fields.iter().map(|field| json!({ "name": field.name, "value": field.value })).collect()
    };
    let SignedAssertion { assertion, kid, alg, jti, token_request, .. } = signed;
    json!({
        "assertion": assertion,
        "kid": kid,
        "alg": alg,
        "jti": jti,
        "issued_at": time(signed.issued_at),
        "expires_at": time(signed.expires_at),
        "token_request": {
            "method": token_request.method,
            "url": token_request.url,
            "content_type": token_request.content_type,
            "headers": fields(&token_request.headers),
            "form": fields(&token_request.form),
        },
    })
}

/// The members of a JWS part as they are written in it, in their order.
fn members(part: &str) -> Vec<(String, String)> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    let Ok(Members(members)) = serde_json::from_slice(&decoded) else {
        return vec![("?".to_owned(), "not a JSON object".to_owned())];
    };
    members
}

struct Members(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<serde_json::value::RawValue>>()? {
                    members.push((name, value.get().to_owned()));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use hallmark_client::TokenRequest;

    use super::*;

    fn signed() -> SignedAssertion {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let header = part(r#"{"alg":"RS384","kid":"key-1","typ":"JWT"}"#);
        let claims = part(r#"{"iss":"app","sub":"app","aud":"https://as.example/token","n":9007199254740993}"#);
        let assertion = format!("{header}.{claims}.c2ln");
        let field = |name: &str, value: &str| FormField { name: name.to_owned(), value: value.to_owned() };
        let token_request = TokenRequest {
            method: "POST".to_owned(),
            url: "https://as.example/token".to_owned(),
            content_type: "application/x-www-form-urlencoded".to_owned(),
            form: vec![field("grant_type", "client_credentials"), field("client_assertion", &assertion)],
            headers: vec![field("accept", "application/json")],
        };
        let issued_at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (kid, alg, jti) = ("key-1".to_owned(), "RS384".to_owned(), "jti-1".to_owned());
        SignedAssertion {
            assertion,
            kid,
            alg,
            jti,
            issued_at,
            expires_at: issued_at + Duration::from_secs(300),
            token_request,
        }
    }

    #[test]
    fn for_people() {
        let Output { stdout, stderr } = as_text("clinic", &signed());
        insta::assert_snapshot!(format!("{stdout}--- stderr\n{stderr}"));
    }

    #[test]
    fn for_programs() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&as_json(&signed())).expect("JSON"));
    }

    #[test]
    fn a_part_that_is_no_json_is_said_to_be_none() {
        assert_eq!(members("!"), [("?".to_owned(), "not a JSON object".to_owned())]);
    }
}
