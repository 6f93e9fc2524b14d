//! Servers that keep to the successor of RFC 7523: a `typ` of its own, and the issuer as the sole audience.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FIVE_MINUTES, FormRules, Iss, Jti, JwksRules, Makes, Need, Profile,
    Refusal, Rule, Typ, UNKNOWN_CACHING, generic::ANY, makes::USUAL, registration::RFC_7591,
};
use crate::key::Alg;

const DRAFT: &str = "draft-ietf-oauth-rfc7523bis-09";
const FAPI: &str = "FAPI 2.0 Security Profile";

pub(super) const RFC7523BIS: Profile = Profile {
    name: "rfc7523bis",
    system: "servers of RFC 7523bis: Duende in strict mode, PingFederate 13.1, OpenIddict 7, HelseID",
    makes: Makes { typ: Typ::ClientAuthentication, aud: Audience::Issuer, ..USUAL },
    accepts: Accepts {
        algs: Rule::unverified(
            &[
                Alg::PS256,
                Alg::ES256,
                Alg::RS256,
                Alg::RS384,
                Alg::ES384,
                Alg::RS512,
                Alg::PS384,
                Alg::PS512,
                Alg::EdDSA,
            ],
            "the server's metadata, token_endpoint_auth_signing_alg_values_supported",
        ),
        typ: Rule::specified(&[Typ::ClientAuthentication], DRAFT),
        kid: Rule::unverified(Need::Optional, "left to the server"),
        jku: Rule::unverified(Need::Optional, "left to the server"),
        certificate: Rule::specified(Certificate::None, DRAFT),
        iss: Rule::specified(Iss::ClientId, DRAFT),
        aud: Rule::specified(&[Audience::Issuer], DRAFT),
        aud_array: Rule::specified(false, DRAFT),
        lifetime: Rule::unverified(Some(FIVE_MINUTES), "the draft has no limit; many systems have this one"),
        iat: Rule::specified(Need::Optional, DRAFT),
        iat_age: Rule::unverified(None, "left to the server"),
        nbf: Rule::specified(Need::Optional, DRAFT),
        skew: Rule::unverified(Duration::ZERO, "left to the server"),
        jti: Rule::specified(Jti { need: Need::Required, longest: None, once: true }, "OpenID Connect Core §9"),
        claims: Rule::specified(&[], DRAFT),
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
    on_revocation: &["disable the client at the authorization server until its cache of the JWKS has run out"],
    unverified: &[
        "which algorithms and lifetimes the server takes, and how it caches the JWKS",
        "whether the server is strict already: most take `typ` JWT and the token endpoint too",
    ],
    refusals: &[
        Refusal {
            says: "invalid_client",
            means: "`aud` is not the issuer as the server writes it, or the server does not know this `typ` yet",
            remedy: "compare `issuer` with its metadata, byte for byte: `hallmark doctor CLIENT`; else try `generic`",
        },
        ANY[1],
        ANY[2],
    ],
};

pub(super) const FAPI2: Profile = Profile {
    name: "fapi2",
    system: "FAPI 2.0",
    accepts: Accepts {
        algs: Rule::specified(&[Alg::PS256, Alg::ES256, Alg::EdDSA], FAPI),
        aud: Rule::specified(&[Audience::Issuer], FAPI),
        aud_array: Rule::specified(false, FAPI),
        skew: Rule::specified(Duration::from_secs(10), FAPI),
        ..RFC7523BIS.accepts
    },
    unverified: &[
        "whether the server wants the `typ` of RFC 7523bis: FAPI 2.0 itself does not say; `override.typ` changes it",
        "which lifetimes the server takes, and how it caches the JWKS",
        "whether its access tokens must be bound (mutual TLS or DPoP): the caller has to do that",
    ],
    ..RFC7523BIS
};
