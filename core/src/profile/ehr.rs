//! Other vendors of health records whose servers take SMART Backend Services: Oracle Health, eClinicalWorks, MIE.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FIVE_MINUTES, Field, FormRules, Handover, How, Iss, Jti, JwksRules, Need,
    Profile, Refusal, Registration, Rule, Typ, UNKNOWN_CACHING, generic::ANY, smart::SMART_V2,
};
use crate::key::Alg;

const ORACLE: &str = "Oracle Health, authorization framework";

pub(super) const ORACLE_HEALTH: Profile = Profile {
    name: "oracle-health",
    system: "Oracle Health (Cerner), system accounts",
    accepts: Accepts {
        algs: Rule::documented(&[Alg::RS384, Alg::ES384], ORACLE),
        typ: Rule::documented(&[Typ::Jwt], ORACLE),
        kid: Rule::documented(Need::Required, ORACLE),
        jku: Rule::unverified(Need::Optional, "as SMART App Launch 2"),
        certificate: Rule::documented(Certificate::None, ORACLE),
        iss: Rule::documented(Iss::ClientId, ORACLE),
        aud: Rule::documented(&[Audience::TokenEndpoint], ORACLE),
        aud_array: Rule::unverified(false, "as SMART App Launch 2"),
        lifetime: Rule::unverified(Some(FIVE_MINUTES), "as SMART App Launch 2"),
        iat: Rule::unverified(Need::Optional, "as SMART App Launch 2"),
        nbf: Rule::unverified(Need::Optional, "as SMART App Launch 2"),
        jti: Rule::unverified(Jti { need: Need::Required, longest: None, once: true }, "as SMART App Launch 2"),
        ..SMART_V2.accepts
    },
    registration: Registration {
        how: How::Portal(&[Field { label: "JWK Set URL", value: Handover::JwksUrl }]),
        hands_over: &[Handover::JwksUrl],
        steps: &[
            "make a system account (Cerner Central), then the system app in the Code Console, with its scopes",
            "choose JWT authentication and give the JWKS URL, or the set itself",
            "have each organisation approve the app for its tenant",
        ],
        uploaded_algs: None,
    },
    jwks: JwksRules {
        lead: UNKNOWN_CACHING,
        caching: Rule::unverified("not known", "ask Oracle Health"),
        demands: &[],
        ..SMART_V2.jwks
    },
    on_revocation: &["take the JWKS URL out of the system account, or disable the account"],
    unverified: &[
        "how long it keeps the JWKS, and whether it looks again for a kid that it lacks",
        "the limits of `exp`, `iat` and `jti`",
        "whether `jku` is looked at",
    ],
    refusals: &[
        Refusal {
            says: "client-assertion:jwt-bearer:invalid-signature",
            means: "the signature was not made with a key that is registered under this kid",
            remedy: "compare `hallmark jwks CLIENT` with what the Code Console has",
        },
        Refusal {
            says: "oauth2:token:invalid-authorization-header",
            means: "the request has an Authorization header: the assertion belongs into the form, as `client_assertion`",
            remedy: "send what `hallmark token CLIENT --print curl` prints",
        },
        Refusal {
            says: "oauth2:token:empty-scopes",
            means: "the assertion was taken; none of the scopes is registered for the app, or they are of the other version",
            remedy: "ask for what the Code Console lists: `hallmark token CLIENT --scope system/Patient.read`",
        },
        Refusal {
            says: "oauth2:token:invalid-tenant",
            means: "the tenant in the token URL does not exist, or the app is not for it",
            remedy: "take `token_endpoint` from `hallmark discover URL` with the organisation's own FHIR address",
        },
        Refusal {
            says: "oauth2:token:invalid-client-credentials",
            means: "the client is known, and what it showed is not right",
            remedy: "`hallmark doctor CLIENT`; then see that the system account is set to JWT and not to a secret",
        },
        Refusal {
            says: "urn:cerner:error:",
            means: "what went wrong, in the last part of the name; `error_uri` holds it percent-encoded",
            remedy: "open the `error_uri`, and quote it when you ask in Oracle Health's forum",
        },
    ],
    ..SMART_V2
};

const INTEGRATORS: &str = "integrators' guides to eClinicalWorks (doordoc, vantrexia, medblocks)";

pub(super) const ECW_HEALOW: Profile = Profile {
    name: "ecw-healow",
    system: "eClinicalWorks / healow",
    accepts: Accepts {
        algs: Rule::hearsay(&[Alg::RS384], INTEGRATORS),
        typ: Rule::hearsay(&[Typ::Jwt], INTEGRATORS),
        kid: Rule::hearsay(Need::Required, INTEGRATORS),
        jku: Rule::unverified(Need::Optional, "as SMART App Launch 2"),
        certificate: Rule::hearsay(Certificate::None, INTEGRATORS),
        iss: Rule::hearsay(Iss::ClientId, INTEGRATORS),
        aud: Rule::hearsay(&[Audience::TokenEndpoint], INTEGRATORS),
        aud_array: Rule::unverified(false, "as SMART App Launch 2"),
        lifetime: Rule::hearsay(Some(FIVE_MINUTES), INTEGRATORS),
        iat: Rule::unverified(Need::Optional, "as SMART App Launch 2"),
        nbf: Rule::unverified(Need::Optional, "as SMART App Launch 2"),
        jti: Rule::unverified(Jti { need: Need::Required, longest: None, once: true }, "as SMART App Launch 2"),
        ..SMART_V2.accepts
    },
    token_request: FormRules {
        client_id: false,
        fixed: &[],
        optional: &[(
            "practice_code",
            "one guide sends it; no other text knows it. Only if eClinicalWorks asks for it",
        )],
    },
    registration: Registration {
        how: How::Portal(&[Field { label: "JWKS URL", value: Handover::JwksUrl }]),
        hands_over: &[Handover::JwksUrl],
        steps: &[
            "register a backend app at fhir.eclinicalworks.com/ecwopendev",
            "write to eClinicalWorks to have the JWKS URL put on its list: it fetches no other",
            "have each practice activate the app",
        ],
        uploaded_algs: None,
    },
    jwks: JwksRules {
        lead: UNKNOWN_CACHING,
        caching: Rule::unverified("not known", "ask eClinicalWorks"),
        demands: &[Rule::hearsay("at the URL that eClinicalWorks put on its list; it never changes", INTEGRATORS)],
        ..SMART_V2.jwks
    },
    on_revocation: &["write to eClinicalWorks, and have the practices deactivate the app"],
    unverified: &[
        "eClinicalWorks' own rules: only what integrators write was seen",
        "how long it keeps the JWKS",
        "the rules of `jti`, `iat`, `nbf` and `jku`",
        "whether `practice_code` in the token request means anything",
        "for how long access tokens are good: 300 s and 3600 s are told; read `expires_in`",
    ],
    refusals: &[
        Refusal {
            says: "jwks_kid_mismatch",
            means: "the header's kid is not in the JWKS that eClinicalWorks read (an integrator's name for it)",
            remedy: "look from outside: `hallmark jwks check CLIENT`; wait a day after a change of keys",
        },
        Refusal {
            says: "jwks_url_inaccessible",
            means: "eClinicalWorks can't read the JWKS URL (an integrator's name for it)",
            remedy: "look from outside: `hallmark jwks check CLIENT`; no redirect, no login, no private address",
        },
        Refusal {
            says: "jwks_not_whitelisted",
            means: "the JWKS URL is not on eClinicalWorks' list (an integrator's name for it)",
            remedy: "send them the message that `hallmark register CLIENT` prints",
        },
        Refusal {
            says: "jwks_malformed",
            means: "what eClinicalWorks read at the URL was no JWKS (an integrator's name for it)",
            remedy: "look for a proxy that answers in its place: `hallmark jwks check CLIENT`",
        },
        Refusal {
            says: "app_not_activated",
            means: "the practice has not activated the app (an integrator's name for it)",
            remedy: "ask the practice: its administrator activates apps",
        },
        Refusal {
            says: "invalid_client",
            means: "any of these, or something in the assertion",
            remedy: "`hallmark doctor CLIENT`; then the list, then the practice",
        },
    ],
    ..SMART_V2
};

const MIE_METADATA: &str = "WebChart's own smart-configuration";
const MIE_DOCS: &str = "MIE, WebChart documentation (January 2026)";
const MIE_SILENT: &str = "MIE does not say; as SMART App Launch 2";

pub(super) const WEBCHART: Profile = Profile {
    name: "webchart",
    system: "MIE WebChart",
    accepts: Accepts {
        // RS384 is what every version takes. The documentation of 2026 names the others.
        algs: Rule::documented(
            &[Alg::RS384, Alg::RS256, Alg::RS512, Alg::ES256, Alg::ES384],
            "WebChart's smart-configuration has RS384 alone; MIE's documentation of January 2026 the others too",
        ),
        typ: Rule::unverified(&[Typ::Jwt], MIE_SILENT),
        kid: Rule::unverified(Need::Optional, MIE_SILENT),
        jku: Rule::unverified(Need::Unwanted, MIE_SILENT),
        certificate: Rule::documented(Certificate::None, MIE_DOCS),
        iss: Rule::unverified(Iss::ClientId, MIE_SILENT),
        aud: Rule::documented(&[Audience::TokenEndpoint], MIE_METADATA),
        aud_array: Rule::unverified(false, MIE_SILENT),
        lifetime: Rule::unverified(Some(FIVE_MINUTES), MIE_SILENT),
        iat: Rule::unverified(Need::Optional, MIE_SILENT),
        iat_age: Rule::unverified(None, MIE_SILENT),
        nbf: Rule::unverified(Need::Optional, MIE_SILENT),
        skew: Rule::unverified(Duration::ZERO, MIE_SILENT),
        jti: Rule::unverified(Jti { need: Need::Required, longest: None, once: true }, MIE_SILENT),
        claims: Rule::unverified(&[], MIE_SILENT),
    },
    registration: Registration {
        how: How::Portal(&[
            Field { label: "Domain", value: Handover::ClientId },
            Field { label: "Key Format", value: Handover::Text("PEM") },
            Field { label: "Digest", value: Handover::Text("SHA1") },
            Field { label: "Public Key", value: Handover::PublicKeyPem },
        ]),
        hands_over: &[Handover::PublicKeyPem, Handover::JwksUrl],
        steps: &[
            "an administrator adds a Login Trust with the public key; its digest SHA1 is the trust's own, not that of the JWS",
            "versions of 2026 can register at `/register` (RFC 7591), or have a trust of key format JWKS with the JWKS URL",
        ],
        uploaded_algs: Some(Rule::unverified(&[Alg::RS256, Alg::RS384, Alg::RS512], "MIE shows RSA keys only")),
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: true,
        lead: UNKNOWN_CACHING,
        caching: Rule::unverified(
            "a PEM is held until somebody replaces it; how a JWKS is kept is not known",
            MIE_SILENT,
        ),
        demands: &[],
    },
    // A Login Trust holds a PEM. A site with a trust of format JWKS confirms, and loses nothing by it.
    binding: Binding::RegisteredCert,
    on_revocation: &["have the administrator delete the Login Trust, or disable it"],
    unverified: &[
        "whether the site's version reads a JWKS URL or only PEMs",
        "whether `kid` and `typ` are looked at",
        "the limits of `exp`, `iat` and `jti`, and how long a JWKS is kept",
        "whether the SHA1 of a Login Trust means anything for assertions",
    ],
    refusals: &[
        Refusal {
            says: "invalid_client",
            means: "no Login Trust fits: the domain is not the client_id, or it holds another key",
            remedy: "compare the trust's key with the `public_key.pem` that `hallmark register CLIENT` prints",
        },
        Refusal {
            says: "",
            means: "the token endpoint ends in a slash, and `aud` with it",
            remedy: "take `token_endpoint` from `hallmark discover URL`, byte for byte: `…/oauth/token/`",
        },
        ANY[1],
        ANY[2],
    ],
    ..SMART_V2
};
