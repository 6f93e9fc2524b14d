//! Ory Hydra.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FormRules, Iss, Jti, JwksRules, Need, Profile, Refusal, Registration,
    Rule, generic::ANY, makes::USUAL, registration::RFC_7591, servers::ANY_TYP,
};
use crate::key::Alg;

const FOSITE: &str = "Ory Fosite, client_authentication.go";

pub(super) const HYDRA: Profile = Profile {
    name: "hydra",
    system: "Ory Hydra",
    makes: USUAL,
    accepts: Accepts {
        algs: Rule::in_source(
            &[Alg::RS256, Alg::RS384, Alg::ES384, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512, Alg::ES256],
            "Ory Fosite: the one of the registration, RS256 where that names none",
        ),
        typ: Rule::in_source(ANY_TYP, FOSITE),
        kid: Rule::in_source(Need::Optional, "Ory Fosite, findPublicKey: older versions require it"),
        jku: Rule::in_source(Need::Ignored, FOSITE),
        certificate: Rule::in_source(Certificate::None, FOSITE),
        iss: Rule::in_source(Iss::ClientId, FOSITE),
        aud: Rule::in_source(&[Audience::TokenEndpoint], FOSITE),
        aud_array: Rule::in_source(true, FOSITE),
        lifetime: Rule::in_source(None, FOSITE),
        iat: Rule::in_source(Need::Optional, FOSITE),
        iat_age: Rule::in_source(None, FOSITE),
        nbf: Rule::in_source(Need::Optional, FOSITE),
        skew: Rule::in_source(Duration::ZERO, FOSITE),
        jti: Rule::in_source(
            Jti { need: Need::Required, longest: None, once: true },
            "Ory Fosite: the `jti` alone, over all clients",
        ),
        claims: Rule::in_source(&[], FOSITE),
    },
    token_request: FormRules { client_id: true, fixed: &[], optional: &[] },
    registration: Registration {
        steps: &["post the document to the admin API, `/admin/clients`, which is not open to the world"],
        ..RFC_7591
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: false,
        lead: Duration::from_secs(3600),
        caching: Rule::in_source(
            "for one hour; an unknown kid is looked for at once",
            "Ory Fosite, JWKSFetcherStrategy",
        ),
        demands: &[Rule::in_source("each key with `use: sig`", FOSITE)],
    },
    binding: Binding::Jwks,
    on_revocation: &["delete the client, or give it another JWKS URL: a removed key is taken for an hour"],
    unverified: &["how the managed service (Ory Network) differs from the source"],
    refusals: &[
        Refusal {
            says: "jti_known",
            means: "this `jti` was used before, by this client or any other",
            remedy: "get a new assertion for each request: `hallmark sign CLIENT`",
        },
        Refusal {
            says: "enforces signing algorithm",
            means: "the client is registered for another algorithm: RS256 where the registration names none",
            remedy: "set `token_endpoint_auth_signing_alg`, as `hallmark register CLIENT` prints it",
        },
        Refusal {
            says: "could not be found",
            means: "the JWKS that Hydra read has no key of this kid",
            remedy: "look from where it runs: `hallmark jwks check CLIENT`",
        },
        Refusal {
            says: "public key with use=\"sig\"",
            means: "the key of this kid has no `use: sig`, or is of another kind than the algorithm",
            remedy: "compare with `hallmark jwks CLIENT`; somebody may have registered a copy of the set",
        },
        Refusal {
            says: "must match the authorization server's token endpoint",
            means: "`aud` is not the token endpoint as Hydra knows it",
            remedy: "set `urls.self.public` of Hydra to its public address; take `token_endpoint` from `hallmark discover URL`",
        },
        Refusal {
            says: "invalid_client",
            means: "the client does not exist, or is registered for a secret",
            remedy: "set `token_endpoint_auth_method` to private_key_jwt, as `hallmark register CLIENT` prints it",
        },
        ANY[1],
    ],
};
