//! The links of one client: registration, keys, a signature, what verifiers see, an access token.

use hallmark_client::{KeyList, KeyState, OAuthClient, SignRequest, SignedAssertion};
use hallmark_core::{
    diagnosis::{About, Assertion, Check, Outcome, checks, doubts, is_key},
    public_key::PublicKey,
};

use super::{
    link::Chain,
    server::{Asked, USUAL_NEXT, broken, not_yours},
};
use crate::{
    cli::{
        Failure,
        connect::failure,
        diagnose::{self, Authorities, Seen},
    },
    verifier::Verifier,
};

/// An access token is asked for, too.
pub(super) struct Live {
    pub(super) scope: String,
}

pub(super) async fn walk(
    chain: &mut Chain,
    hallmark: &Asked,
    client: OAuthClient,
    keys: Option<&KeyList>,
    ca: &Authorities,
    live: Option<&Live>,
) {
    let (name, pem_url) = (client.name.clone(), client.public_key_url.clone());
    chain.begin(format!("client {name}"));
    if client.client_id.is_none() {
        let next = format!("hallmark register {name}; then set `client_id` in its [[client]]");
        chain.broken("registration", "the client has no `client_id` yet, so that nothing is signed for it", next);
    }
    let active = key_links(chain, &client, keys);
    let signed = signature(chain, hallmark, &name).await;
    let assertion = signed.as_ref().and_then(read);
    let registered = client.client_id.is_some();
    let seen = match Seen::look(&hallmark.workload, client, ca).await {
        Ok(seen) => seen,
        // The other clients are looked at all the same.
        Err(failure) => return unseen(chain, &failure, &name),
    };
    let active = signed.map(|signed| signed.kid).or(active).or_else(|| diagnose::first_kid(&seen.key_set));
    let facts = seen.facts(assertion.as_ref(), active.as_deref(), None);
    for check in checks(&facts).into_iter().filter(|check| registered || check.about != About::ClientId) {
        let about = check.about;
        show(chain, check);
        if about == About::KeySet {
            doubts(&facts).into_iter().for_each(|doubt| chain.doubtful(about.as_str(), doubt.what, Some(doubt.next)));
        }
        if about == About::FirstRsaKey && seen.profile().jwks.pem {
            pem(chain, &seen, active.as_deref(), &pem_url, ca).await;
        }
    }
    if let Some(live) = live {
        access_token(chain, hallmark, &name, live, ca).await;
    }
}

/// Nothing of the client can be looked at by who asks: mostly a workload that may not sign for it.
fn unseen(chain: &mut Chain, failure: &Failure, name: &str) {
    broken(chain, About::KeySet.as_str(), failure, &not_yours(name));
}

/// What does not concern this kind of system is no link of its chain.
fn show(chain: &mut Chain, check: Check) {
    let beside = matches!(check.about, About::FirstRsaKey | About::Certificate);
    if beside && matches!(check.outcome, Outcome::Skipped(_)) {
        return;
    }
    chain.checked(check);
}

/// Each key line: the key that signs and the one that is next. Gives the `kid` that signs first.
fn key_links(chain: &mut Chain, client: &OAuthClient, keys: Option<&KeyList>) -> Option<String> {
    let keys = keys?.keys.iter().filter(|key| key.client.as_deref() == Some(&client.name)).collect::<Vec<_>>();
    let mut first = None;
    for (alg, hsm) in client.algs.iter().flat_map(|alg| client.hsms.iter().map(move |hsm| (alg, hsm))) {
        let line = || keys.iter().filter(|key| &key.alg == alg && &key.hsm == hsm);
        let of = |state: KeyState| line().find(|key| key.state == state);
        match of(KeyState::Active) {
            Some(key) if key.absent => {
                let next = format!(
                    "see which, and where: hallmark keys list --client {}; put the right token in first",
                    client.name
                );
                chain.broken("active key", format!("the key of {alg} is not on HSM `{hsm}` as it should be"), next);
            }
            Some(key) => {
                let kid = key.kid.clone().unwrap_or_default();
                chain.good("active key", format!("`{kid}`, {alg} on HSM `{hsm}`"));
                first = first.or(Some(kid));
            }
            None => {
                let next = format!("hallmark keys create {} --reason TEXT", client.name);
                chain.broken("active key", format!("there is none for {alg} on HSM `{hsm}`"), next);
            }
        }
        match of(KeyState::PreActive) {
            Some(key) => {
                let waits = key.next_step.as_ref().and_then(|step| step.blocked.clone());
                let waits = waits.map(|why| format!(", which waits: {why}")).unwrap_or_default();
                chain.good("next key", format!("`{}`{waits}", key.kid.as_deref().unwrap_or_default()));
            }
            // It signs all the same.
            None => {
                let what = format!("there is none for {alg} on HSM `{hsm}` yet; Hallmark makes it by itself");
                chain.doubtful("next key", what, None);
            }
        }
    }
    first
}

async fn signature(chain: &mut Chain, hallmark: &Asked, name: &str) -> Option<SignedAssertion> {
    match hallmark.workload.sign_assertion(SignRequest::new(name)).await {
        Ok(signed) => {
            chain.good("signature", format!("{} with key `{}`", signed.alg, signed.kid));
            Some(signed)
        }
        Err(error) if NOT_A_WORKLOAD.contains(&error.reason()) => {
            chain.skipped("signature", format!("who asks may not sign for `{name}`: --connection FILE of a workload"));
            None
        }
        Err(error) => {
            broken(chain, "signature", &failure(&error, name), USUAL_NEXT);
            None
        }
    }
}

fn read(signed: &SignedAssertion) -> Option<Assertion> {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let mut parts = signed.assertion.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let mut text = || String::from_utf8(parts.next()??).ok();
    Assertion::read(&text()?, &text()?)
}

/// The active key's PEM, for systems that want one.
async fn pem(chain: &mut Chain, seen: &Seen, kid: Option<&str>, url: &str, ca: &Authorities) {
    let link = "PEM";
    let next = format!("curl -i {url}");
    let verifier = match Verifier::new(ca.jwks.as_deref()) {
        Ok(verifier) => verifier,
        Err(error) => return chain.broken(link, error.to_string(), next),
    };
    let body = match verifier.ask(url).await {
        Ok(answer) if answer.status == 200 => answer.body.unwrap_or_default(),
        Ok(answer) => return chain.broken(link, format!("`{url}` answers {}", answer.status), next),
        Err(error) => return chain.broken(link, format!("`{url}` {error}"), next),
    };
    let ours = seen.key_set.ours.iter().find(|key| key.get("kid").and_then(|kid| kid.as_str()) == kid);
    match (public_key(&body), ours) {
        (Some(theirs), Some(ours)) if is_key(&theirs, ours) => {
            chain.good(link, format!("`{url}` has the key that signs"))
        }
        (Some(_), Some(_)) => chain.broken(link, format!("`{url}` has another key than the one that signs"), next),
        (None, _) => chain.broken(link, format!("there is no PEM of a public key at `{url}`"), next),
        (_, None) => chain.skipped(link, "it is not known which key signs"),
    }
}

fn public_key(pem: &[u8]) -> Option<PublicKey> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let body: String = body.split_whitespace().collect();
    PublicKey::from_spki(&BASE64_STANDARD.decode(body).ok()?).ok()
}

async fn access_token(chain: &mut Chain, hallmark: &Asked, name: &str, live: &Live, ca: &Authorities) {
    let request = SignRequest::new(name).scope(live.scope.clone());
    let error = match hallmark.workload.token_for(request).await {
        Ok(token) => {
            let life = token.granted_for().map_or(String::new(), |life| format!(", good for {} s", life.as_secs()));
            return chain.good("access token", format!("granted{life}"));
        }
        Err(error) => error,
    };
    match diagnose::refusal(&hallmark.workload, name, &error, ca).await {
        Ok(Some((_, causes))) => {
            let said = error.refusal().and_then(|refusal| refusal.error_description.clone());
            let said = said.map(|said| format!(": {said}")).unwrap_or_default();
            chain.refused(format!("{}{said}", error.message()), causes);
        }
        Ok(None) if NOT_A_WORKLOAD.contains(&error.reason()) => chain.skipped("access token", "who asks may not sign"),
        Ok(None) => broken(chain, "access token", &failure(&error, name), USUAL_NEXT),
        Err(failure) => broken(chain, "access token", &failure, USUAL_NEXT),
    }
}

const NOT_A_WORKLOAD: [&str; 2] = ["WORKLOAD_UNKNOWN", "CLIENT_NOT_PERMITTED"];
