//! Epic.

use std::time::Duration;

use super::{
    Accepts, Audience, Certificate, FIVE_MINUTES, Field, Handover, How, Iss, Jti, JwksRules, Need, Profile, Refusal,
    Registration, Rule, Typ, smart::SMART_V2,
};
use crate::key::Alg;

const EPIC_PAGE: &str = "Epic, OAuth 2.0 page (fhir.epic.com)";
const EPIC_NOTICE: &str = "Epic, notice on JWKS URLs (fhir.epic.com, 2026)";

pub(super) const EPIC: Profile = Profile {
    name: "epic",
    system: "Epic",
    accepts: Accepts {
        algs: Rule::documented(&[Alg::RS384, Alg::ES384, Alg::RS256, Alg::RS512, Alg::ES256], EPIC_PAGE),
        typ: Rule::documented(&[Typ::Jwt, Typ::Absent], EPIC_PAGE),
        kid: Rule::documented(Need::Required, "Epic, OAuth 2.0 page: where the key is read from a JWKS URL"),
        jku: Rule::documented(Need::Optional, EPIC_PAGE),
        certificate: Rule::documented(Certificate::None, EPIC_PAGE),
        iss: Rule::documented(Iss::ClientId, EPIC_PAGE),
        aud: Rule::documented(&[Audience::TokenEndpoint], EPIC_PAGE),
        aud_array: Rule::unverified(false, EPIC_PAGE),
        lifetime: Rule::documented(Some(FIVE_MINUTES), EPIC_PAGE),
        iat: Rule::documented(Need::Optional, EPIC_PAGE),
        iat_age: Rule::documented(Some(FIVE_MINUTES), EPIC_PAGE),
        nbf: Rule::documented(Need::Optional, EPIC_PAGE),
        skew: Rule::unverified(Duration::ZERO, "not said; `iat` and `nbf` must not lie in the future"),
        jti: Rule::documented(Jti { need: Need::Required, longest: Some(151), once: true }, EPIC_PAGE),
        claims: Rule::documented(&[], EPIC_PAGE),
    },
    registration: Registration {
        how: How::Portal(&[
            Field { label: "Non-Production JWK Set URL", value: Handover::JwksUrl },
            Field { label: "Production JWK Set URL", value: Handover::JwksUrl },
        ]),
        hands_over: &[Handover::JwksUrl],
        steps: &[
            "make the app at fhir.epic.com, with user type Backend Systems: it gets two client ids, one for non-production",
            "make two clients here, one for each client id, and give each its own JWKS URL",
            "wait: a new client takes one to two days to reach a site, a change up to 12 hours",
            "have each site enable the app, and let its servers reach the JWKS URL: each site fetches it by itself",
        ],
        uploaded_algs: Some(Rule::documented(&[Alg::RS256, Alg::RS384, Alg::RS512], EPIC_PAGE)),
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: true,
        // It obeys the headers, and reads the set again where a signature did not verify.
        lead: Duration::ZERO,
        caching: Rule::documented(
            "for 29 hours, or shorter as Cache-Control says; once more for a token that did not verify",
            EPIC_PAGE,
        ),
        demands: &[
            Rule::documented("over TLS at a stable public address; it is fetched when the app is saved", EPIC_PAGE),
            Rule::documented("one URL for production and another for non-production", EPIC_PAGE),
            Rule::documented(
                "for backend apps an uploaded key is no longer enough (since 23 February 2026)",
                EPIC_NOTICE,
            ),
            Rule::documented("RSA keys of 2048 bits or more", EPIC_PAGE),
        ],
    },
    on_revocation: &[
        "disable the client at fhir.epic.com, and tell the sites: the removed key is taken until their cache ends, 29 hours at most",
    ],
    unverified: &["by how much a site's clock may differ", "whether an array as `aud` is taken"],
    refusals: &[
        Refusal {
            says: "\"error_description\":null",
            means: "the assertion was refused; Epic never says why",
            remedy: "`hallmark doctor CLIENT` goes through all that Epic checks; likeliest: the id of the other environment",
        },
        Refusal {
            says: "invalid_client",
            means: "the assertion was refused, the site does not know the client yet, or it can't reach the JWKS URL",
            remedy: "look from outside with `hallmark jwks check CLIENT`, then ask the site whether its servers may go there",
        },
        Refusal {
            says: "invalid_scope",
            means: "the assertion was taken; the app has no such scope",
            remedy: "add the API to the app, wait for the sync, and leave `--scope` out: Epic gives what is registered",
        },
        Refusal {
            says: "unauthorized_client",
            means: "the client is known, and not enabled at this site or not for backend use",
            remedy: "have the site enable it; see that the app's user type is Backend Systems",
        },
    ],
    ..SMART_V2
};
