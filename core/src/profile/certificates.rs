//! Systems that know a client by its certificate: CareEvolution, Carequality at Cerner, UDAP.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FIVE_MINUTES, FormRules, Handover, How, Iss, Jti, JwksRules, Makes, Need,
    Profile, Refusal, Registration, Rule, Typ, generic::ANY, makes::USUAL,
};
use crate::key::Alg;

const NOT_READ: JwksRules = JwksRules {
    first_rsa_key: false,
    pem: false,
    lead: Duration::ZERO,
    caching: Rule::documented("it is not read: the certificate decides", "the system's own documentation"),
    demands: &[],
};

const CARE_PAGE: &str = "CareEvolution, BackendServicesAuthorization page";
const CARE_SAMPLE: &str = "CareEvolution, ExampleFhirClient, AccessTokenHelper";
const IDENTITY_SERVER: &str = "IdentityServer3, PrivateKeyJwtSecretValidator";

/// What stands behind it is an IdentityServer; which version, nobody says.
pub(super) const CAREEVOLUTION: Profile = Profile {
    name: "careevolution",
    system: "CareEvolution",
    makes: Makes { kid: false, x5t: true, nbf: true, ..USUAL },
    accepts: Accepts {
        algs: Rule::in_source(&[Alg::RS256], CARE_SAMPLE),
        typ: Rule::in_source(&[Typ::Jwt], CARE_SAMPLE),
        kid: Rule::unverified(Need::Ignored, CARE_SAMPLE),
        jku: Rule::in_source(Need::Ignored, IDENTITY_SERVER),
        certificate: Rule::in_source(Certificate::X5t, CARE_SAMPLE),
        iss: Rule::documented(Iss::ClientId, CARE_PAGE),
        aud: Rule::documented(&[Audience::TokenEndpoint], CARE_PAGE),
        aud_array: Rule::unverified(false, IDENTITY_SERVER),
        lifetime: Rule::in_source(None, "CareEvolution's own sample asks for 90 minutes"),
        iat: Rule::in_source(Need::Optional, CARE_SAMPLE),
        iat_age: Rule::in_source(None, IDENTITY_SERVER),
        nbf: Rule::in_source(Need::Optional, CARE_SAMPLE),
        skew: Rule::in_source(FIVE_MINUTES, IDENTITY_SERVER),
        jti: Rule::in_source(Jti { need: Need::Required, longest: None, once: true }, IDENTITY_SERVER),
        claims: Rule::in_source(&[], IDENTITY_SERVER),
    },
    token_request: FormRules { client_id: true, fixed: &[], optional: &[] },
    registration: Registration {
        how: How::Portal(&[]),
        hands_over: &[Handover::CertificatePem, Handover::Thumbprints],
        steps: &[
            "send CareEvolution the certificate; never use the key that they publish for tests",
            "ask which client_id it is registered for: it is `iss` and `sub`",
        ],
        uploaded_algs: None,
    },
    jwks: NOT_READ,
    binding: Binding::RegisteredCert,
    on_revocation: &["have CareEvolution remove the certificate: they do not read the JWKS"],
    unverified: &[
        "which IdentityServer runs there today, and whether a `kid` would be taken instead of `x5t`",
        "whether a certificate that signs itself is taken",
    ],
    refusals: &[
        Refusal {
            says: "invalid_client",
            means: "the thumbprint is not registered, or `aud`, `iss` and `sub` are not what they should be",
            remedy: "compare `hallmark cert show CLIENT` with what CareEvolution has; then `hallmark doctor CLIENT`",
        },
        ANY[1],
        ANY[2],
    ],
};

const SCRIPT: &str = "the signing script of Cerner's connectathon guide, 2019";

pub(super) const CERNER_CAREQUALITY_2019: Profile = Profile {
    name: "cerner-carequality-2019",
    system: "Cerner with Carequality certificates, connectathon of 2019",
    makes: Makes { typ: Typ::Absent, kid: false, x5c: true, iss: Iss::Registered, iat: false, ..USUAL },
    accepts: Accepts {
        algs: Rule::in_source(&[Alg::RS256], SCRIPT),
        typ: Rule::in_source(&[Typ::Absent], SCRIPT),
        kid: Rule::in_source(Need::Unwanted, SCRIPT),
        jku: Rule::in_source(Need::Unwanted, SCRIPT),
        certificate: Rule::in_source(Certificate::X5c, SCRIPT),
        iss: Rule::unverified(Iss::Registered, "the script sends a label; whether that is checked, nobody says"),
        aud: Rule::unverified(&[Audience::TokenEndpoint], "the script names another host than the one it posts to"),
        aud_array: Rule::unverified(false, SCRIPT),
        lifetime: Rule::in_source(Some(FIVE_MINUTES), SCRIPT),
        iat: Rule::unverified(Need::Optional, "the script sends none"),
        iat_age: Rule::unverified(None, SCRIPT),
        nbf: Rule::unverified(Need::Optional, "the script sends none"),
        skew: Rule::unverified(Duration::ZERO, SCRIPT),
        jti: Rule::unverified(
            Jti { need: Need::Required, longest: None, once: true },
            "the script's `jti` is always the same, so that it was hardly checked",
        ),
        claims: Rule::in_source(&[], SCRIPT),
    },
    token_request: FormRules { client_id: false, fixed: &[], optional: &[] },
    registration: Registration {
        how: How::Portal(&[]),
        hands_over: &[Handover::ClientId],
        steps: &[
            "get a Carequality certificate for a host name of yours: `hallmark csr CLIENT`",
            "write to Cerner with the host name and what you are: the host name becomes the client_id",
        ],
        uploaded_algs: None,
    },
    jwks: NOT_READ,
    binding: Binding::CertChain,
    on_revocation: &["have Carequality's authority revoke the certificate, and write to Cerner"],
    unverified: &[
        "whether anything of 2019 is still there: `udap-b2b` came after it",
        "whether `iss`, `jti` and the host of `aud` are checked",
        "whether a new certificate of the same host name is taken without asking",
    ],
    refusals: &[
        Refusal {
            says: "invalid_client",
            means: "the certificate is not of the chain, not for the host name that is the client_id, or has run out",
            remedy: "look at names and dates: `hallmark cert show CLIENT`",
        },
        ANY[1],
        ANY[2],
    ],
};

const UDAP_B2B_PAGE: &str = "HL7 UDAP Security IG, Business-to-Business";
const UDAP_GENERAL: &str = "HL7 UDAP Security IG, General Requirements";

pub(super) const UDAP_B2B: Profile = Profile {
    name: "udap-b2b",
    system: "UDAP Business-to-Business (HL7 FAST Security, TEFCA, Carequality)",
    makes: Makes { typ: Typ::Absent, kid: false, x5c: true, ..USUAL },
    accepts: Accepts {
        algs: Rule::specified(&[Alg::RS256, Alg::ES256, Alg::RS384, Alg::ES384], UDAP_GENERAL),
        typ: Rule::specified(&[Typ::Absent, Typ::Jwt], UDAP_B2B_PAGE),
        kid: Rule::specified(Need::Unwanted, UDAP_GENERAL),
        jku: Rule::specified(Need::Unwanted, UDAP_GENERAL),
        certificate: Rule::specified(Certificate::X5c, UDAP_GENERAL),
        iss: Rule::specified(Iss::ClientId, UDAP_B2B_PAGE),
        aud: Rule::specified(&[Audience::TokenEndpoint], UDAP_B2B_PAGE),
        aud_array: Rule::specified(false, UDAP_B2B_PAGE),
        lifetime: Rule::specified(Some(FIVE_MINUTES), UDAP_B2B_PAGE),
        iat: Rule::specified(Need::Required, UDAP_B2B_PAGE),
        iat_age: Rule::specified(Some(FIVE_MINUTES), UDAP_B2B_PAGE),
        nbf: Rule::specified(Need::Optional, UDAP_B2B_PAGE),
        skew: Rule::unverified(Duration::ZERO, "udap-dotnet allows 5 minutes; the specification says nothing"),
        jti: Rule::specified(Jti { need: Need::Required, longest: None, once: true }, UDAP_B2B_PAGE),
        claims: Rule::specified(&["extensions"], "HL7 UDAP Security IG, Business-to-Business: `hl7-b2b` in it"),
    },
    token_request: FormRules { client_id: false, fixed: &[("udap", "1")], optional: &[] },
    registration: Registration {
        how: How::SoftwareStatement,
        hands_over: &[],
        steps: &[
            "get a certificate of the community's authority, with a URI of yours among its names: `hallmark csr CLIENT`",
            "install it: `hallmark cert install CLIENT FILE --reason TEXT`, leaf first, then what leads to the root",
            "register: `hallmark register CLIENT --post`; a new certificate means to register again",
        ],
        uploaded_algs: None,
    },
    jwks: JwksRules { caching: Rule::specified("it is not read: `x5c` has the key", UDAP_GENERAL), ..NOT_READ },
    binding: Binding::CertChain,
    on_revocation: &[
        "have the authority revoke the certificate: servers look at its revocation list",
        "cancel the registration: post a software statement with empty `grant_types`",
    ],
    unverified: &[
        "whether the server holds the leaf of the registration against each assertion: Inferno's test kit does",
        "which members of `hl7-b2b` the community wants beside `version`, `organization_id` and `purpose_of_use`",
    ],
    refusals: &[
        Refusal {
            says: "missing `x5c` header",
            means: "the header shows no certificate",
            remedy: "install one, and leave `override.x5c` out: `hallmark cert install CLIENT FILE --reason TEXT`",
        },
        Refusal {
            says: "signing cert does not match registration cert",
            means: "the certificate is another than the one of the registration",
            remedy: "register again: `hallmark register CLIENT --post`",
        },
        Refusal {
            says: "invalid_software_statement",
            means: "`iss` is none of the certificate's URIs, or dates, `aud` or the signature of the statement are not right",
            remedy: "see the URIs and dates with `hallmark cert show CLIENT`, and the statement with `hallmark register CLIENT`",
        },
        Refusal {
            says: "unapproved_software_statement",
            means: "the server does not trust the authority of the certificate, or the community has not approved you",
            remedy: "install the whole chain: `hallmark cert install CLIENT FILE --reason TEXT`; then ask the community",
        },
        Refusal {
            says: "invalid_client",
            means: "likeliest: the claim `extensions` is missing or not as the community wants it, or the leaf has run out",
            remedy: "see both with `hallmark doctor CLIENT`",
        },
        Refusal {
            says: "invalid_grant",
            means: "the `hl7-b2b` extension was not taken: a member is missing, or this purpose is not allowed to you",
            remedy: "complete `claims.extensions` in the [[client]]",
        },
        ANY[1],
    ],
};
