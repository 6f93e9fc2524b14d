//! OpenEMR.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FormRules, Handover, How, Iss, Jti, JwksRules, Need, Profile, Refusal,
    Registration, Rule, Typ, makes::USUAL,
};
use crate::key::Alg;

const GRANT: &str = "OpenEMR 7, CustomClientCredentialsGrant";
const KEY_SET: &str = "OpenEMR 7, JsonWebKeySet and RsaSha384Signer";
const REPLAY: &str = "OpenEMR 7, UniqueID and table jwt_grant_history";

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
    },
    jwks: JwksRules {
        first_rsa_key: true,
        pem: false,
        lead: Duration::ZERO,
        caching: Rule::measured("not at all: the JWKS is fetched for each token request", KEY_SET),
    },
    binding: Binding::Jwks,
    on_revocation: &[],
    unverified: &[],
    refusals: &[
        Refusal {
            says: "Client authentication failed",
            means: "nearly anything: the answer is the same for a wrong signature, audience, algorithm or a used `jti`",
            remedy: "look whether the active key is the first RSA key of the JWKS, and whether the client is enabled",
        },
        Refusal {
            says: "Unsupported token_endpoint_auth_method value",
            means: "the registration named private_key_jwt",
            remedy: "leave `token_endpoint_auth_method` out, as `hallmark register` does",
        },
        Refusal {
            says: "jwks is invalid",
            means: "the registration has system scopes and neither `jwks_uri` nor `jwks`",
            remedy: "send one of them",
        },
    ],
};
