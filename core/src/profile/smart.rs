//! SMART on FHIR Backend Services, and its older texts.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FIVE_MINUTES, FormRules, Handover, How, Iss, Jti, JwksRules, Need,
    Profile, Registration, Rule, Typ, generic::ANY, makes::USUAL,
};
use crate::key::Alg;

const ASYMMETRIC: &str = "SMART App Launch 2.2, client-confidential-asymmetric";

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
    registration: Registration {
        how: How::Document {
            auth_method: Some("private_key_jwt"),
            signing_alg: true,
            redirect_uris: false,
            members: &[],
        },
        hands_over: &[Handover::JwksUrl],
        steps: &[],
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: false,
        // The specification forbids to keep a set for longer than the headers say.
        lead: Duration::ZERO,
        caching: Rule::specified("as the Cache-Control header says, and no longer", ASYMMETRIC),
    },
    binding: Binding::Jwks,
    on_revocation: &["disable the client at the authorization server until its cache of the JWKS has run out"],
    unverified: &[],
    refusals: ANY,
};
