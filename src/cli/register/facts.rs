//! What Hallmark knows of a client.

use hallmark_client::{Client, Key, KeyState, OAuthClient};
use hallmark_core::{
    certificate,
    profile::Profile,
    registration::{CertificateFacts, Facts, Wishes},
};
use serde_json::Value;

use super::{super::connect::failure, Failure};

pub(super) async fn gather(hallmark: &Client, client: &str, wishes: Wishes) -> Result<Facts, Failure> {
    let told = |error| failure(&error, client);
    let known = hallmark.oauth_client(client).await.map_err(told)?;
    let keys = hallmark.list_keys(Some(client)).await.map_err(told)?;
    let jwks = hallmark.jwks(client).await.map_err(told)?;
    let jwks: Option<Value> = serde_json::from_slice(&jwks.document).ok();
    let profile = Profile::find(&known.profile).ok_or_else(|| {
        let text = format!("the server has a profile that this version does not know: `{}`", known.profile);
        Failure::new(text).hint("use the `hallmark` of the server's version: compare `hallmark --version`")
    })?;
    Ok(facts(profile, known, &keys, jwks, wishes))
}

fn facts(profile: &'static Profile, known: OAuthClient, keys: &[Key], jwks: Option<Value>, wishes: Wishes) -> Facts {
    let mut active = keys.iter().filter(|key| key.state == KeyState::Active);
    let preferred = active.clone().find(|key| Some(&key.alg) == known.algs.first());
    let active = preferred.or_else(|| active.next());
    let kid = active.and_then(|key| key.kid.clone());
    Facts {
        profile,
        client: known.name,
        client_id: known.client_id,
        iss: known.iss,
        token_endpoint: known.token_endpoint,
        jwks_url: known.jwks_url,
        alg: active.map(|key| key.alg.clone()).or_else(|| known.algs.first().cloned()),
        public_key_pem: active.map(|key| certificate::pem("PUBLIC KEY", &key.spki)),
        certificate: active.and_then(|key| CertificateFacts::of(&key.certificate_chain)),
        kid,
        jwks,
        wishes,
    }
}
