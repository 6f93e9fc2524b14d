//! RFC 7523 and OpenID Connect Core, without the additions of any one system.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FormRules, Iss, Jti, JwksRules, Need, Profile, Refusal, Rule, Typ,
    UNKNOWN_CACHING, makes::USUAL, registration::RFC_7591,
};
use crate::key::Alg;

pub(super) const GENERIC: Profile = Profile {
    name: "generic",
    system: "any server of RFC 7523 or OpenID Connect",
    makes: USUAL,
    accepts: Accepts {
        algs: Rule::unverified(
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
            "the server's metadata, token_endpoint_auth_signing_alg_values_supported",
        ),
        typ: Rule::specified(&[Typ::Jwt, Typ::Absent, Typ::ClientAuthentication], "RFC 7519 §5.1"),
        kid: Rule::specified(Need::Optional, "RFC 7515 §4.1.4"),
        jku: Rule::specified(Need::Optional, "RFC 7515 §4.1.2"),
        certificate: Rule::specified(Certificate::None, "RFC 7515 §4.1.6"),
        iss: Rule::specified(Iss::ClientId, "RFC 7523 §3"),
        aud: Rule::specified(&[Audience::TokenEndpoint, Audience::Issuer], "RFC 7523 §3"),
        aud_array: Rule::specified(false, "RFC 7519 §4.1.3 allows it; several servers refuse it"),
        lifetime: Rule::unverified(Some(super::FIVE_MINUTES), "no limit is specified; many systems have this one"),
        iat: Rule::specified(Need::Optional, "RFC 7523 §3"),
        iat_age: Rule::specified(None, "RFC 7523 §3"),
        nbf: Rule::specified(Need::Optional, "RFC 7523 §3"),
        skew: Rule::unverified(Duration::ZERO, "RFC 7519 §4.1.4 leaves it to the server"),
        jti: Rule::specified(Jti { need: Need::Required, longest: None, once: true }, "OpenID Connect Core §9"),
        claims: Rule::specified(&[], "RFC 7523 §3"),
    },
    token_request: FormRules { client_id: false, fixed: &[], optional: &[] },
    registration: RFC_7591,
    jwks: JwksRules {
        first_rsa_key: false,
        pem: false,
        lead: UNKNOWN_CACHING,
        caching: Rule::unverified("not known", "ask the site"),
        demands: &[],
    },
    binding: Binding::Jwks,
    on_revocation: &[
        "disable the client at the authorization server: many go on accepting a key that left the JWKS until they look again",
    ],
    unverified: &["which algorithms, lifetimes and audiences the server takes, and how it caches the JWKS"],
    refusals: ANY,
};

/// What a refusal may mean everywhere, likeliest first.
pub(super) const ANY: &[Refusal] = &[
    Refusal {
        says: "invalid_client",
        means: "the authorization server could not verify the assertion, or does not know the client",
        remedy: "`hallmark doctor CLIENT` compares `aud`, `kid`, the clock and the public JWKS with what it should be",
    },
    Refusal {
        says: "invalid_scope",
        means: "the assertion was taken; the client may not have this scope",
        remedy: "ask for one that was registered: `hallmark token CLIENT --scope …`",
    },
    Refusal {
        says: "unauthorized_client",
        means: "the client is known, and may not use client_credentials",
        remedy: "have the grant type enabled for it at the authorization server",
    },
];
