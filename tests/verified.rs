//! Assertions as real verifiers see them.

use hallmark_client::{Client, Connection, Refusal};
use serde_json::json;

use crate::support::{
    Dev,
    caller::for_client,
    token_request,
    verifiers::{self, AuthorizationServer},
};

/// The main job, to its end: the authorization server fetches our JWKS URL and gives an access token. Not every server
/// repeats the scope that it granted.
async fn access_token(server: AuthorizationServer, alg: &str, says_scope: bool) {
    let client = format!("clinic:{alg}");
    let dev = Dev::start(&["--client", &client, "--token-endpoint", &server.token_endpoint]);
    server.register("clinic", dev.jwks_url("clinic"), alg, "system/Patient.rs").await;
    let hallmark = Client::connect(Connection::from_file(dev.path("/connection")).unwrap()).unwrap();

    let token = hallmark.token("clinic", "system/Patient.rs").await.unwrap();
    assert_eq!((token.status(), token.token_type().to_lowercase().as_str()), (200, "bearer"));
    assert_eq!(token.scope(), says_scope.then_some("system/Patient.rs"));
    assert!(!token.expose().is_empty());
    assert_eq!(server.event(), json!({"event": "jwks_fetch", "url": dev.jwks_url("clinic"), "status": 200}));
    assert_eq!(server.event(), json!({"event": "token_issued", "client_id": "clinic"}));

    // A second access token takes a second assertion: this server refuses a `jti` that it knows.
    hallmark.forget_token(&token);
    assert_ne!(hallmark.token("clinic", "system/Patient.rs").await.unwrap().expose(), token.expose());

    let refused = hallmark.token("clinic", "system/Observation.rs").await.unwrap_err();
    let error = |refusal: &Refusal| (refusal.status, refusal.error.clone());
    assert_eq!(refused.refusal().map(error), Some((400, Some("invalid_scope".to_owned()))), "{refused:?}");
}

#[tokio::test]
async fn oidc_provider_gives_an_access_token_for_rs384() {
    access_token(AuthorizationServer::oidc_provider(), "RS384", false).await;
}

#[tokio::test]
async fn oidc_provider_gives_an_access_token_for_es384() {
    access_token(AuthorizationServer::oidc_provider(), "ES384", false).await;
}

#[tokio::test]
async fn authlib_gives_an_access_token_for_rs384() {
    access_token(AuthorizationServer::authlib(), "RS384", true).await;
}

#[tokio::test]
async fn authlib_gives_an_access_token_for_es384() {
    access_token(AuthorizationServer::authlib(), "ES384", true).await;
}

/// Whoever registered another algorithm, or another key, learns it from the authorization server's own words.
#[tokio::test]
async fn a_refusal_of_the_authorization_server_reaches_the_caller() {
    let server = AuthorizationServer::oidc_provider();
    let dev = Dev::start(&["--client", "clinic:ES384", "--token-endpoint", &server.token_endpoint]);
    server.register("clinic", dev.jwks_url("clinic"), "RS384", "").await;
    let hallmark = Client::connect(Connection::from_file(dev.path("/connection")).unwrap()).unwrap();
    let refused = hallmark.token("clinic", "").await.unwrap_err();
    assert_eq!(refused.reason(), "TOKEN_REFUSED");
    assert_eq!(refused.refusal().unwrap().error.as_deref(), Some("invalid_client"));
}

/// Every algorithm that a SoftHSM does, verified by npm's jose from the JWKS URL; the two that most authorization
/// servers want, by PyJWT too.
#[tokio::test]
async fn jose_verifies_every_algorithm() {
    let algs = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
    let audience = "http://as.example/token";
    let clients: Vec<_> =
        algs.iter().map(|alg| (alg.to_lowercase(), format!("{}:{alg}", alg.to_lowercase()))).collect();
    let mut options = vec!["--token-endpoint", audience];
    clients.iter().for_each(|(_, client)| options.extend(["--client", client]));
    let dev = Dev::start(&options);
    let caller = dev.caller("workload");

    for (alg, (name, _)) in algs.iter().zip(&clients) {
        let signed = caller.sign_for(name).await.unwrap();
        let seen = verifiers::jose(&signed.assertion, dev.jwks_url(name), audience, name);
        assert_eq!(seen["header"], json!({"typ": "JWT", "alg": alg, "kid": signed.kid}));
        let (iat, exp) = (seen["payload"]["iat"].as_i64().unwrap(), seen["payload"]["exp"].as_i64().unwrap());
        assert_eq!(exp - iat, 300);
        assert_eq!(
            seen["payload"],
            json!({"iss": name, "sub": name, "aud": audience, "jti": signed.jti, "iat": iat, "exp": exp})
        );
        if ["RS384", "ES384"].contains(alg) {
            verifiers::pyjwt(&signed.assertion, dev.jwks_url(name), audience, name);
        }
    }
}

/// The reply describes the token request so well that its receiver needs to know nothing of OAuth.
#[tokio::test]
async fn the_token_request_is_ready_to_send() {
    let server = AuthorizationServer::oidc_provider();
    let dev = Dev::start(&["--client", "clinic:RS384", "--token-endpoint", &server.token_endpoint]);
    server.register("clinic", dev.jwks_url("clinic"), "RS384", "a b").await;
    let mut request = for_client("clinic");
    request.scope = "a b".to_owned();
    let described = dev.caller("workload").sign(request).await.unwrap().token_request.unwrap();

    let (status, answer) = token_request::send(&described).await;
    assert_eq!(status, 200, "{answer}");
}
