//! Authorization servers that are run by whoever installs them: Keycloak, oidc-provider.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, Field, FormRules, Handover, How, Iss, Jti, JwksRules, Makes, Need,
    Profile, Refusal, Registration, Rule, Typ, generic::ANY, makes::USUAL, registration::RFC_7591,
};
use crate::key::Alg;

pub(super) const ANY_TYP: &[Typ] = &[Typ::Jwt, Typ::Absent, Typ::ClientAuthentication];

const KEYCLOAK_JWT: &str = "Keycloak, AbstractJWTClientValidator";
const KEYCLOAK_KEYS: &str = "Keycloak, ClientPublicKeyLoader and InfinispanPublicKeyStorageProvider";

pub(super) const KEYCLOAK: Profile = Profile {
    name: "keycloak",
    system: "Keycloak",
    // A realm may allow a minute and no more; nothing is lost by keeping to that.
    makes: Makes { lifetime: Duration::from_secs(60), ..USUAL },
    accepts: Accepts {
        algs: Rule::in_source(
            &[
                Alg::RS256,
                Alg::RS384,
                Alg::ES384,
                Alg::PS256,
                Alg::ES256,
                Alg::RS512,
                Alg::PS384,
                Alg::PS512,
                Alg::EdDSA,
            ],
            "Keycloak, JWTClientAuthenticator: what the client's settings say, or any",
        ),
        typ: Rule::in_source(ANY_TYP, KEYCLOAK_JWT),
        kid: Rule::in_source(Need::Required, "Keycloak, PublicKeyStorageUtils: where the set has more than one key"),
        jku: Rule::in_source(Need::Ignored, KEYCLOAK_JWT),
        certificate: Rule::in_source(Certificate::None, KEYCLOAK_JWT),
        iss: Rule::in_source(Iss::ClientId, KEYCLOAK_JWT),
        aud: Rule::in_source(&[Audience::TokenEndpoint, Audience::Issuer], KEYCLOAK_JWT),
        aud_array: Rule::in_source(false, KEYCLOAK_JWT),
        lifetime: Rule::in_source(None, "Keycloak, AbstractJWTClientValidator: 60 s, where there is no `iat`"),
        iat: Rule::in_source(Need::Optional, KEYCLOAK_JWT),
        iat_age: Rule::in_source(Some(Duration::from_secs(60)), KEYCLOAK_JWT),
        nbf: Rule::in_source(Need::Optional, KEYCLOAK_JWT),
        skew: Rule::in_source(Duration::from_secs(15), KEYCLOAK_JWT),
        jti: Rule::in_source(Jti { need: Need::Required, longest: None, once: true }, KEYCLOAK_JWT),
        claims: Rule::in_source(&[], KEYCLOAK_JWT),
    },
    token_request: FormRules { client_id: false, fixed: &[], optional: &[] },
    registration: Registration {
        how: How::Portal(&[
            Field { label: "Client ID", value: Handover::ClientId },
            Field { label: "Client authentication", value: Handover::Text("On") },
            Field { label: "Service accounts roles", value: Handover::Text("on") },
            Field { label: "Credentials > Client Authenticator", value: Handover::Text("Signed Jwt") },
            Field { label: "Keys > Use JWKS URL", value: Handover::Text("On") },
            Field { label: "Keys > JWKS URL", value: Handover::JwksUrl },
        ]),
        hands_over: &[Handover::JwksUrl],
        steps: &["set the signature algorithm of the client to that of its keys here, or to any"],
        uploaded_algs: None,
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: false,
        lead: Duration::from_secs(10),
        caching: Rule::in_source(
            "for ever while a key is found; an unknown kid is looked for again, every 10 s at most",
            KEYCLOAK_KEYS,
        ),
        demands: &[Rule::in_source("each key with `use: sig`", KEYCLOAK_KEYS)],
    },
    binding: Binding::Jwks,
    on_revocation: &[
        "clear the keys cache (Realm settings > Sessions, or the admin API): a removed key is taken until then",
        "or disable the client",
    ],
    unverified: &["what the realm's client policies add: they can fix the algorithm, the audience and the lifetime"],
    refusals: &[
        Refusal {
            says: "Unable to load public key",
            means: "Keycloak can't read the JWKS URL, or the set has no key of that kid with `use: sig`",
            remedy: "look from where Keycloak runs: `hallmark jwks check CLIENT`",
        },
        Refusal {
            says: "Token reuse detected",
            means: "this assertion was used before: it was kept, or the request was repeated with it",
            remedy: "get a new assertion for each request: `hallmark sign CLIENT`",
        },
        Refusal {
            says: "Token expiration is too far in the future and iat claim not present in token",
            means: "an assertion without `iat` may live for 60 s",
            remedy: "leave `override.iat` out of the [[client]]",
        },
        Refusal {
            says: "Token was issued too far in the past to be used now",
            means: "`iat` is older than the realm allows, or the clocks differ",
            remedy: "compare the clocks: `hallmark doctor CLIENT`",
        },
        Refusal {
            says: "Token is not active",
            means: "`exp` has passed or `nbf` has not, by Keycloak's clock",
            remedy: "compare the clocks: `hallmark doctor CLIENT`",
        },
        Refusal {
            says: "audience",
            means: "`aud` is an array, or neither the realm's issuer nor its token endpoint as Keycloak knows them",
            remedy: "take `token_endpoint` from `hallmark discover URL`; behind a proxy Keycloak's `hostname` must be set",
        },
        Refusal {
            says: "Invalid client or Invalid client credentials",
            means: "the client does not exist, is not set to Signed Jwt, or the signature does not fit",
            remedy: "see the client's Credentials tab, and the event log of the realm; then `hallmark doctor CLIENT`",
        },
    ],
};

const OIDC_PROVIDER_AUTH: &str = "oidc-provider, jwt_client_auth.js";
const OIDC_PROVIDER_SEEN: &str = "oidc-provider, run by Hallmark's tests";

pub(super) const OIDC_PROVIDER: Profile = Profile {
    name: "oidc-provider",
    system: "oidc-provider (panva, Node.js)",
    makes: USUAL,
    accepts: Accepts {
        algs: Rule::measured(
            &[
                Alg::RS384,
                Alg::ES384,
                Alg::RS256,
                Alg::RS512,
                Alg::PS256,
                Alg::PS384,
                Alg::PS512,
                Alg::ES256,
                Alg::EdDSA,
            ],
            "oidc-provider: those of `enabledJWA.clientAuthSigningAlgValues`; RS384 and ES384 must be added to it",
        ),
        typ: Rule::measured(ANY_TYP, OIDC_PROVIDER_SEEN),
        kid: Rule::measured(Need::Optional, OIDC_PROVIDER_SEEN),
        jku: Rule::measured(Need::Ignored, OIDC_PROVIDER_SEEN),
        certificate: Rule::measured(Certificate::None, OIDC_PROVIDER_SEEN),
        iss: Rule::in_source(Iss::ClientId, OIDC_PROVIDER_AUTH),
        aud: Rule::measured(&[Audience::TokenEndpoint, Audience::Issuer], OIDC_PROVIDER_SEEN),
        aud_array: Rule::in_source(true, OIDC_PROVIDER_AUTH),
        lifetime: Rule::in_source(None, OIDC_PROVIDER_AUTH),
        iat: Rule::measured(Need::Optional, OIDC_PROVIDER_SEEN),
        iat_age: Rule::in_source(None, OIDC_PROVIDER_AUTH),
        nbf: Rule::in_source(Need::Optional, OIDC_PROVIDER_AUTH),
        skew: Rule::measured(Duration::from_secs(15), "oidc-provider, `clockTolerance`"),
        jti: Rule::measured(Jti { need: Need::Required, longest: None, once: true }, OIDC_PROVIDER_SEEN),
        claims: Rule::in_source(&[], OIDC_PROVIDER_AUTH),
    },
    registration: Registration {
        how: How::Document {
            auth_method: Some("private_key_jwt"),
            signing_alg: true,
            redirect_uris: false,
            members: &[("redirect_uris", "[]"), ("response_types", "[]")],
        },
        steps: &["or write the same members into the server's `clients`"],
        ..RFC_7591
    },
    token_request: FormRules { client_id: false, fixed: &[], optional: &[] },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: false,
        lead: Duration::from_secs(60),
        caching: Rule::measured(
            "for as long as Cache-Control or Expires say, and 60 s at least; it looks again for a kid only after that",
            OIDC_PROVIDER_SEEN,
        ),
        demands: &[
            Rule::measured("no private member in any key: one refuses the whole set", OIDC_PROVIDER_SEEN),
            Rule::measured("`key_ops`, if there, with `verify`", OIDC_PROVIDER_SEEN),
            Rule::measured("never an error as JSON: it is kept like a set", OIDC_PROVIDER_SEEN),
        ],
    },
    binding: Binding::Jwks,
    on_revocation: &["disable the client: a removed key is taken until a kid is missed after the set has run out"],
    unverified: &[],
    refusals: &[
        Refusal {
            says: "invalid_client",
            means: "the answer is always the same; the server's `server_error` and `grant.error` events have the reason",
            remedy: "`hallmark doctor CLIENT`; have the server log `error_detail`",
        },
        Refusal {
            says: "alg mismatch",
            means: "the client is registered for another algorithm, or the server has not enabled this one",
            remedy: "set `token_endpoint_auth_signing_alg`, as `hallmark register CLIENT` prints it; enable it at the server",
        },
        Refusal {
            says: "client assertion tokens must only be used once",
            means: "this assertion was used before",
            remedy: "get a new assertion for each request: `hallmark sign CLIENT`",
        },
        Refusal {
            says: "audience (aud) must equal",
            means: "`aud` is neither the endpoint nor the issuer: the server thinks itself at another address",
            remedy: "take `token_endpoint` from `hallmark discover URL`; behind a proxy set the server's `proxy`",
        },
        Refusal {
            says: "client JSON Web Key Set failed to be refreshed",
            means: "the server can't read the JWKS URL, or what it read was no key set",
            remedy: "look from where it runs: `hallmark jwks check CLIENT`; it looks again after a minute",
        },
        ANY[1],
    ],
};
