//! OpenEMR.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FIVE_MINUTES, FormRules, Handover, How, Iss, Jti, JwksRules, Need,
    Profile, Refusal, Registration, Rule, Typ, makes::USUAL,
};
use crate::key::Alg;

const GRANT: &str = "OpenEMR 7, CustomClientCredentialsGrant";
const KEY_SET: &str = "OpenEMR 7, JsonWebKeySet and RsaSha384Signer";
const REPLAY: &str = "OpenEMR 7, UniqueID and table jwt_grant_history";
const SERVICE: &str = "OpenEMR, JWTClientAuthenticationService of 2025";
const HARDENED: &str = "OpenEMR, the hardened key set of 2026 (8.x-dev)";

pub(super) const OPENEMR_7: Profile = Profile {
    name: "openemr-7",
    system: "OpenEMR 7",
    makes: USUAL,
    accepts: Accepts {
        algs: Rule::measured(&[Alg::RS384], KEY_SET),
        typ: Rule::in_source(&[Typ::Jwt, Typ::Absent, Typ::ClientAuthentication], GRANT),
        kid: Rule::measured(Need::Ignored, KEY_SET),
        jku: Rule::in_source(Need::Ignored, GRANT),
        certificate: Rule::in_source(Certificate::None, GRANT),
        iss: Rule::in_source(Iss::ClientId, GRANT),
        aud: Rule::measured(&[Audience::TokenEndpoint], GRANT),
        aud_array: Rule::measured(true, GRANT),
        lifetime: Rule::in_source(None, GRANT),
        iat: Rule::in_source(Need::Optional, GRANT),
        iat_age: Rule::in_source(None, GRANT),
        nbf: Rule::in_source(Need::Optional, GRANT),
        skew: Rule::in_source(Duration::from_secs(60), GRANT),
        jti: Rule::in_source(Jti { need: Need::Required, longest: Some(100), once: true }, REPLAY),
        claims: Rule::in_source(&[], GRANT),
    },
    token_request: FormRules { client_id: false, fixed: &[], optional: &[] },
    registration: Registration {
        how: How::Document {
            auth_method: None,
            signing_alg: false,
            redirect_uris: true,
            members: &[("application_type", "\"private\"")],
        },
        hands_over: &[Handover::JwksUrl],
        steps: &[
            "an administrator enables the client: Admin > System > API Clients",
            "an administrator turns on the global setting for system scopes",
        ],
        uploaded_algs: None,
    },
    jwks: JwksRules {
        first_rsa_key: true,
        pem: false,
        lead: Duration::ZERO,
        caching: Rule::measured("not at all: the JWKS is fetched for each token request", KEY_SET),
        demands: &[
            Rule::measured("the active key as the first RSA key of the set", KEY_SET),
            Rule::in_source("a `kid` on each key", KEY_SET),
        ],
    },
    binding: Binding::Jwks,
    on_revocation: &[],
    unverified: &[],
    refusals: &[
        Refusal {
            says: "Client authentication failed",
            means: "nearly anything: the answer is the same for a wrong signature, audience, algorithm or a used `jti`",
            remedy: "`hallmark doctor CLIENT`: is the active key the first RSA key of the JWKS? then: is the client enabled?",
        },
        Refusal {
            says: "not allowed to be used by this audience",
            means: "`aud` is not the token URL that OpenEMR makes of its site address: behind a proxy it has its own idea of that",
            remedy: "take `token_endpoint` from `hallmark discover URL`, or have `site_addr_oath` corrected",
        },
        NO_PRIVATE_KEY_JWT,
        NO_KEYS,
    ],
};

const NO_PRIVATE_KEY_JWT: Refusal = Refusal {
    says: "Unsupported token_endpoint_auth_method value",
    means: "the registration named private_key_jwt",
    remedy: "leave `token_endpoint_auth_method` out, as `hallmark register CLIENT` does",
};

const NO_KEYS: Refusal = Refusal {
    says: "jwks is invalid",
    means: "the registration has system scopes and neither `jwks_uri` nor `jwks`",
    remedy: "send what `hallmark register CLIENT` prints",
};

/// The rules of the development version, which are stricter than those of any release in between.
pub(super) const OPENEMR_8: Profile = Profile {
    name: "openemr-8",
    system: "OpenEMR 8",
    accepts: Accepts {
        algs: Rule::in_source(&[Alg::RS384], SERVICE),
        kid: Rule::in_source(Need::Required, HARDENED),
        aud: Rule::in_source(&[Audience::TokenEndpoint], SERVICE),
        aud_array: Rule::unverified(true, "version 7 takes an array"),
        lifetime: Rule::in_source(Some(Duration::from_secs(24 * 3600)), SERVICE),
        iat_age: Rule::in_source(Some(FIVE_MINUTES), SERVICE),
        skew: Rule::unverified(Duration::from_secs(60), "as version 7"),
        jti: Rule::in_source(Jti { need: Need::Required, longest: Some(100), once: true }, HARDENED),
        ..OPENEMR_7.accepts
    },
    jwks: JwksRules {
        first_rsa_key: false,
        caching: Rule::in_source("not by itself; an unknown kid is looked for once more", HARDENED),
        demands: &[
            Rule::in_source("`use`, if there, is `sig`; `alg`, if there, is `RS384`", HARDENED),
            Rule::in_source("at most 50 keys and 256 KiB; RSA of at most 8192 bits", HARDENED),
            Rule::in_source("over https at a public address: private ones are refused", HARDENED),
        ],
        ..OPENEMR_7.jwks
    },
    unverified: &[
        "which release has which of the rules: one that ignores `kid` needs `openemr-7`",
        "whether registration still refuses private_key_jwt",
        "whether a site has put a cache of 24 hours before the JWKS",
    ],
    refusals: &[
        Refusal {
            says: "No signing key found for kid",
            means: "OpenEMR read the JWKS, twice, and found no key of that kid",
            remedy: "look from outside: `hallmark jwks check CLIENT`",
        },
        Refusal {
            says: "Token issued too far in the past",
            means: "`iat` is older than five minutes: an assertion was kept for later, or the clocks differ",
            remedy: "ask for a new assertion for each token request; compare the clocks with `hallmark doctor CLIENT`",
        },
        Refusal {
            says: "Invalid subject claim",
            means: "`sub` is not the client_id",
            remedy: "set `client_id` in the [[client]] to what the registration answered",
        },
        Refusal {
            says: "Invalid issuer claim",
            means: "`iss` is not the client_id",
            remedy: "leave `iss` out of the [[client]]",
        },
        Refusal {
            says: "Missing jti claim",
            means: "the assertion has no `jti`: it is not one of Hallmark's",
            remedy: "see what was sent with `hallmark inspect - --profile openemr-8`",
        },
        Refusal {
            says: "Client authentication failed",
            means: "nearly anything; OpenEMR's own log says which",
            remedy: "`hallmark doctor CLIENT`; then: is the client enabled under Admin > System > API Clients?",
        },
        NO_PRIVATE_KEY_JWT,
        NO_KEYS,
    ],
    ..OPENEMR_7
};
