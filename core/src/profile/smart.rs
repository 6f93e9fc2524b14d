//! SMART on FHIR Backend Services, and its older texts.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FIVE_MINUTES, FormRules, Handover, How, Iss, Jti, JwksRules, Makes, Need,
    Profile, Refusal, Registration, Rule, Typ, generic::ANY, makes::USUAL, registration::RFC_7591,
};
use crate::key::Alg;

const ASYMMETRIC: &str = "SMART App Launch 2.2, client-confidential-asymmetric";
const OLD: &str = "docs.smarthealthit.org, backend services, January 2018";
const SERVER: &str = "smart-on-fhir/bulk-data-server, token_handler.js";

pub(super) const SMART_V2: Profile = Profile {
    name: "smart-v2",
    system: "SMART App Launch 2, Backend Services",
    makes: USUAL,
    accepts: Accepts {
        algs: Rule::specified(&[Alg::RS384, Alg::ES384], ASYMMETRIC),
        typ: Rule::specified(&[Typ::Jwt], ASYMMETRIC),
        kid: Rule::specified(Need::Required, ASYMMETRIC),
        jku: Rule::specified(Need::Optional, ASYMMETRIC),
        certificate: Rule::specified(Certificate::None, ASYMMETRIC),
        iss: Rule::specified(Iss::ClientId, ASYMMETRIC),
        aud: Rule::specified(&[Audience::TokenEndpoint], ASYMMETRIC),
        aud_array: Rule::measured(false, "the reference server's process ends on an array"),
        lifetime: Rule::specified(Some(FIVE_MINUTES), ASYMMETRIC),
        iat: Rule::specified(Need::Optional, ASYMMETRIC),
        iat_age: Rule::specified(None, ASYMMETRIC),
        nbf: Rule::specified(Need::Optional, ASYMMETRIC),
        skew: Rule::unverified(Duration::ZERO, ASYMMETRIC),
        jti: Rule::specified(Jti { need: Need::Required, longest: None, once: true }, ASYMMETRIC),
        claims: Rule::specified(&[], ASYMMETRIC),
    },
    token_request: FormRules { client_id: false, fixed: &[], optional: &[] },
    registration: RFC_7591,
    jwks: JwksRules {
        first_rsa_key: false,
        pem: false,
        // The specification forbids to keep a set for longer than the headers say.
        lead: Duration::ZERO,
        caching: Rule::specified("as the Cache-Control header says, and no longer", ASYMMETRIC),
        demands: &[
            Rule::specified("over TLS, without any authentication of the server that fetches it", ASYMMETRIC),
            Rule::specified("exactly one key of the assertion's kid and key type", ASYMMETRIC),
            Rule::in_source("each key with `alg`, for servers built like smart-launcher-v2", "smart-launcher-v2"),
        ],
    },
    binding: Binding::Jwks,
    on_revocation: &["disable the client at the authorization server until its cache of the JWKS has run out"],
    unverified: &["by how much the clocks may differ"],
    refusals: ANY,
};

/// Has no JWKS: a public key and an issuer URL were registered.
pub(super) const SMART_2018: Profile = Profile {
    name: "smart-2018",
    system: "SMART Backend Services as of January 2018",
    makes: Makes { kid: false, iss: Iss::Registered, ..USUAL },
    accepts: Accepts {
        algs: Rule::specified(&[Alg::RS256], OLD),
        typ: Rule::specified(&[Typ::Jwt], OLD),
        kid: Rule::specified(Need::Optional, OLD),
        jku: Rule::specified(Need::Optional, OLD),
        certificate: Rule::specified(Certificate::None, OLD),
        iss: Rule::specified(Iss::Registered, OLD),
        aud: Rule::specified(&[Audience::TokenEndpoint], OLD),
        aud_array: Rule::unverified(false, OLD),
        lifetime: Rule::specified(Some(FIVE_MINUTES), OLD),
        iat: Rule::specified(Need::Optional, OLD),
        iat_age: Rule::specified(None, OLD),
        nbf: Rule::specified(Need::Optional, OLD),
        skew: Rule::unverified(Duration::ZERO, OLD),
        jti: Rule::specified(Jti { need: Need::Required, longest: None, once: true }, OLD),
        claims: Rule::specified(&[], OLD),
    },
    registration: Registration {
        how: How::Portal(&[]),
        hands_over: &[Handover::Iss, Handover::PublicKeyPem],
        steps: &["give the site an issuer URL of your own and the public key; it gives you a client_id"],
        uploaded_algs: None,
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: true,
        lead: Duration::ZERO,
        caching: Rule::specified("it is not read: the key was registered by hand", OLD),
        demands: &[],
    },
    binding: Binding::RegisteredCert,
    on_revocation: &["have the site take the public key out of the registration"],
    unverified: &["whether the site has moved on to SMART App Launch 2 since: most have; then use `smart-v2`"],
    ..SMART_V2
};

/// The reference server of bulk data, which many test against.
pub(super) const SMART_BULK_DATA_SERVER: Profile = Profile {
    name: "smart-bulk-data-server",
    system: "SMART bulk-data-server (bulk-data.smarthealthit.org)",
    accepts: Accepts {
        algs: Rule::in_source(
            &[Alg::RS384, Alg::ES384, Alg::RS256, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512, Alg::ES256],
            SERVER,
        ),
        typ: Rule::measured(&[Typ::Jwt], SERVER),
        kid: Rule::measured(Need::Required, SERVER),
        jku: Rule::in_source(Need::Optional, SERVER),
        certificate: Rule::in_source(Certificate::None, SERVER),
        iss: Rule::in_source(Iss::ClientId, SERVER),
        aud: Rule::measured(&[Audience::TokenEndpoint], SERVER),
        aud_array: Rule::measured(false, "the server's process ends on an array, for everybody"),
        lifetime: Rule::in_source(None, "no limit; `exp` shortens the access token: token_handler.js"),
        iat: Rule::in_source(Need::Optional, SERVER),
        iat_age: Rule::in_source(None, SERVER),
        nbf: Rule::in_source(Need::Optional, SERVER),
        skew: Rule::in_source(Duration::ZERO, SERVER),
        jti: Rule::in_source(Jti { need: Need::Optional, longest: None, once: false }, SERVER),
        claims: Rule::in_source(&[], SERVER),
    },
    registration: Registration {
        how: How::Portal(&[]),
        hands_over: &[Handover::JwksUrl],
        steps: &["paste the JWKS URL into the server's settings page; the client_id that it gives is a JWT itself"],
        uploaded_algs: None,
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: false,
        lead: Duration::ZERO,
        caching: Rule::measured("not at all: the JWKS is fetched for each token request", SERVER),
        demands: &[Rule::in_source("`key_ops`, if there, with `verify`", SERVER)],
    },
    on_revocation: &[],
    unverified: &[],
    refusals: &[
        Refusal {
            says: "invalid_client_details_token",
            means: "the client_id is not the one that the settings page gave, or was cut: it has 225 characters and more",
            remedy: "put it into a file and name that with `client_id_file`",
        },
        Refusal {
            says: "invalid_aud",
            means: "`aud` is not the URL that was posted to",
            remedy: "take `token_endpoint` from `hallmark discover URL`, byte for byte: there are several FHIR versions",
        },
        Refusal {
            says: "jku_not_whitelisted",
            means: "the header's `jku` is not the JWKS URL of the registration",
            remedy: "register the URL that `hallmark jwks CLIENT` prints, or leave `override.jku` out",
        },
        Refusal {
            says: "No public keys found in the JWKS",
            means: "the server fetched the JWKS and found no key of that kid",
            remedy: "look with `hallmark jwks check CLIENT`; the settings page may have an older URL",
        },
        Refusal {
            says: "Requesting the remote JWKS returned an error",
            means: "the JWKS URL can't be read from the internet",
            remedy: "look from outside: `hallmark jwks check CLIENT`",
        },
        Refusal {
            says: "invalid_scope",
            means: "the assertion was not even looked at: the scope names no FHIR resource, or has none of `system/`",
            remedy: "ask for `system/Patient.rs` or the like: `hallmark token CLIENT --scope system/Patient.rs`",
        },
    ],
    ..SMART_V2
};
