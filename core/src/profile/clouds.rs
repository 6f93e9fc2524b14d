//! Identity services: Microsoft Entra ID, Auth0, Okta.

use std::time::Duration;

use super::{
    Accepts, Audience, Binding, Certificate, FIVE_MINUTES, Field, FormRules, Handover, How, Iss, Jti, JwksRules, Makes,
    Need, Profile, Refusal, Registration, Rule, Typ, UNKNOWN_CACHING, generic::ANY, makes::USUAL,
};
use crate::key::Alg;

const ENTRA_PAGE: &str = "Microsoft, application authentication certificate credentials";
const ENTRA_SILENT: &str = "Microsoft does not say";

pub(super) const ENTRA: Profile = Profile {
    name: "entra",
    system: "Microsoft Entra ID",
    makes: Makes { kid: false, x5t_s256: true, nbf: true, ..USUAL },
    accepts: Accepts {
        algs: Rule::documented(
            &[Alg::PS256, Alg::RS256],
            "Microsoft, application authentication certificate credentials; RS256 is the older text",
        ),
        typ: Rule::documented(&[Typ::Jwt], ENTRA_PAGE),
        kid: Rule::unverified(Need::Optional, ENTRA_SILENT),
        jku: Rule::unverified(Need::Optional, ENTRA_SILENT),
        certificate: Rule::documented(Certificate::X5tS256, ENTRA_PAGE),
        iss: Rule::documented(Iss::ClientId, ENTRA_PAGE),
        aud: Rule::documented(&[Audience::TokenEndpoint], ENTRA_PAGE),
        aud_array: Rule::unverified(false, ENTRA_SILENT),
        lifetime: Rule::documented(
            Some(Duration::from_secs(600)),
            "Microsoft, application authentication certificate credentials: 5 to 10 minutes after `nbf`; not enforced",
        ),
        iat: Rule::documented(Need::Optional, ENTRA_PAGE),
        iat_age: Rule::unverified(None, ENTRA_SILENT),
        nbf: Rule::documented(Need::Required, ENTRA_PAGE),
        skew: Rule::unverified(Duration::ZERO, ENTRA_SILENT),
        jti: Rule::documented(Jti { need: Need::Required, longest: None, once: false }, ENTRA_PAGE),
        claims: Rule::documented(&[], ENTRA_PAGE),
    },
    token_request: FormRules { client_id: true, fixed: &[], optional: &[] },
    registration: Registration {
        how: How::Portal(&[Field {
            label: "Certificates & secrets > Certificates > Upload certificate",
            value: Handover::CertificatePem,
        }]),
        hands_over: &[Handover::CertificatePem, Handover::Thumbprints],
        steps: &[
            "make an app registration; its Application (client) ID is the client_id",
            "give it application permissions for the API, and have an administrator consent to them",
        ],
        uploaded_algs: None,
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: false,
        lead: Duration::ZERO,
        caching: Rule::documented("it is not read: the certificate was uploaded", ENTRA_PAGE),
        demands: &[],
    },
    binding: Binding::RegisteredCert,
    on_revocation: &[
        "delete the certificate from the app registration; tokens that were given go on until they run out",
    ],
    unverified: &[
        "by how much the clocks may differ",
        "whether a `jti` can be used twice",
        "whether an array as `aud` is taken",
    ],
    refusals: &[
        Refusal {
            says: "AADSTS700027",
            means: "the signature or the thumbprint does not fit: the certificate is not uploaded to this app",
            remedy: "compare `hallmark cert show CLIENT` with the thumbprint in the portal",
        },
        Refusal {
            says: "AADSTS700024",
            means: "the assertion is not valid now, by Microsoft's clock",
            remedy: "compare the clocks: `hallmark doctor CLIENT`",
        },
        Refusal {
            says: "AADSTS700021",
            means: "`iss` and `sub` are not the `client_id` of the form",
            remedy: "set `client_id` in the [[client]] to the Application (client) ID, and leave `iss` out",
        },
        Refusal {
            says: "AADSTS700016",
            means: "the app is not in this tenant",
            remedy: "take `token_endpoint` of the right tenant: `hallmark discover https://login.microsoftonline.com/TENANT/v2.0`",
        },
        Refusal {
            says: "AADSTS1002012",
            means: "with client_credentials the scope must be the API's and end in `/.default`",
            remedy: "`hallmark token CLIENT --scope https://graph.microsoft.com/.default`",
        },
        Refusal {
            says: "AADSTS50027",
            means: "the assertion is no JWT that can be read",
            remedy: "see what was sent: `hallmark inspect - --profile entra`",
        },
        Refusal {
            says: "invalid_client",
            means: "another of the AADSTS numbers, at the beginning of `error_description`",
            remedy: "look the number up, and quote the trace id when you ask",
        },
    ],
};

const AUTH0_PAGE: &str = "Auth0, Authenticate with Private Key JWT";

pub(super) const AUTH0: Profile = Profile {
    name: "auth0",
    system: "Auth0",
    // Auth0 gives each credential a kid of its own.
    makes: Makes { kid: false, aud: Audience::Issuer, ..USUAL },
    accepts: Accepts {
        algs: Rule::documented(&[Alg::RS256, Alg::RS384, Alg::PS256], AUTH0_PAGE),
        typ: Rule::unverified(&[Typ::Jwt, Typ::Absent], "Auth0's page does not name it"),
        kid: Rule::documented(Need::Optional, "Auth0, Authenticate with Private Key JWT: only one that Auth0 made"),
        jku: Rule::unverified(Need::Optional, "Auth0's page does not name it"),
        certificate: Rule::documented(Certificate::None, AUTH0_PAGE),
        iss: Rule::documented(Iss::ClientId, AUTH0_PAGE),
        aud: Rule::documented(
            &[Audience::Issuer, Audience::TokenEndpoint],
            "Auth0's page: the tenant's URL with the slash at its end; Auth0's community: the token endpoint",
        ),
        aud_array: Rule::unverified(false, AUTH0_PAGE),
        lifetime: Rule::documented(Some(FIVE_MINUTES), AUTH0_PAGE),
        iat: Rule::documented(Need::Optional, AUTH0_PAGE),
        iat_age: Rule::unverified(None, AUTH0_PAGE),
        nbf: Rule::documented(Need::Optional, AUTH0_PAGE),
        skew: Rule::documented(Duration::from_secs(10), AUTH0_PAGE),
        jti: Rule::documented(Jti { need: Need::Required, longest: Some(64), once: true }, AUTH0_PAGE),
        claims: Rule::documented(&[], AUTH0_PAGE),
    },
    token_request: FormRules {
        client_id: false,
        fixed: &[],
        optional: &[(
            "audience",
            "the identifier of the API, which client_credentials needs unless the tenant has a default",
        )],
    },
    registration: Registration {
        how: How::Portal(&[
            Field { label: "Credentials > Authentication Method", value: Handover::Text("Private Key JWT") },
            Field { label: "Credentials > Public Key", value: Handover::PublicKeyPem },
        ]),
        hands_over: &[Handover::PublicKeyPem],
        steps: &[
            "make an application of type Machine to Machine, and authorise it for the API",
            "choose the algorithm of the credential: that of the key here",
        ],
        uploaded_algs: None,
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: true,
        lead: Duration::ZERO,
        caching: Rule::documented("it is not read: the public key was uploaded", AUTH0_PAGE),
        demands: &[Rule::documented(
            "two credentials at most at a time: enough for a rotation",
            "Auth0, Configure Private Key JWT",
        )],
    },
    binding: Binding::RegisteredCert,
    on_revocation: &["delete the credential of the application in the dashboard"],
    unverified: &[
        "whether the token endpoint as `aud` is taken in every tenant: the page names the tenant's URL alone",
        "whether `typ` and `jku` are looked at",
    ],
    refusals: &[
        Refusal {
            says: "no more than 5 minutes after 'iat'",
            means: "the assertion lives too long (the tenant's log says so, the answer need not)",
            remedy: "leave `override.lifetime` out of the [[client]]",
        },
        Refusal {
            says: "access_denied",
            means: "the assertion was taken; the form names no `audience`, or the application is not authorised for it",
            remedy: "set `form = { audience = \"…\" }` in the [[client]], and authorise the application for that API",
        },
        Refusal {
            says: "invalid_client",
            means: "the key is not a credential of this application, or `aud` lacks the slash; the tenant's log says which",
            remedy: "compare the credential with `public_key.pem`; `issuer` is `https://TENANT/`, with the slash",
        },
        ANY[1],
        ANY[2],
    ],
};

const OKTA_SUPPORT: &str = "Okta, support articles on client_assertion";
const OKTA_DOCS: &str = "Okta, client authentication methods";

pub(super) const OKTA: Profile = Profile {
    name: "okta",
    system: "Okta",
    makes: USUAL,
    accepts: Accepts {
        algs: Rule::unverified(
            &[Alg::RS256, Alg::RS384, Alg::ES384, Alg::RS512, Alg::ES256],
            "Okta's metadata, token_endpoint_auth_signing_alg_values_supported",
        ),
        typ: Rule::unverified(&[Typ::Jwt, Typ::Absent], OKTA_DOCS),
        kid: Rule::documented(Need::Required, OKTA_SUPPORT),
        jku: Rule::unverified(Need::Optional, OKTA_DOCS),
        certificate: Rule::documented(Certificate::None, OKTA_DOCS),
        iss: Rule::documented(Iss::ClientId, OKTA_SUPPORT),
        aud: Rule::documented(&[Audience::TokenEndpoint], OKTA_SUPPORT),
        aud_array: Rule::unverified(false, OKTA_DOCS),
        lifetime: Rule::unverified(Some(Duration::from_secs(3600)), OKTA_DOCS),
        iat: Rule::unverified(Need::Optional, OKTA_DOCS),
        iat_age: Rule::unverified(None, OKTA_DOCS),
        nbf: Rule::unverified(Need::Optional, OKTA_DOCS),
        skew: Rule::unverified(Duration::ZERO, OKTA_DOCS),
        jti: Rule::unverified(Jti { need: Need::Optional, longest: None, once: true }, OKTA_DOCS),
        claims: Rule::documented(&[], OKTA_DOCS),
    },
    token_request: FormRules { client_id: false, fixed: &[], optional: &[] },
    registration: Registration {
        how: How::Portal(&[
            Field { label: "Client authentication", value: Handover::Text("Public key / Private key") },
            Field { label: "Configuration", value: Handover::Text("Use a URL to fetch keys dynamically") },
            Field { label: "URL", value: Handover::JwksUrl },
        ]),
        hands_over: &[Handover::JwksUrl],
        steps: &[
            "make an app integration of type API Services",
            "grant it scopes: Okta API Scopes, or those of the authorization server, with an access policy that lets it in",
            "turn `Require DPoP` off, unless the caller sends DPoP proofs",
        ],
        uploaded_algs: None,
    },
    jwks: JwksRules {
        first_rsa_key: false,
        pem: false,
        lead: UNKNOWN_CACHING,
        caching: Rule::unverified("not known", "ask Okta"),
        demands: &[],
    },
    binding: Binding::Jwks,
    on_revocation: &["deactivate the app integration until its cache of the JWKS has run out"],
    unverified: &[
        "how long it keeps the JWKS, and whether it looks again for a kid that it lacks",
        "the longest lifetime (an hour is told), the rules of `jti`, `iat` and `nbf`, and how far clocks may differ",
        "which algorithms this org takes: its metadata says",
    ],
    refusals: &[
        Refusal {
            says: "The client_assertion JWT kid is invalid.",
            means: "Okta knows no key of this kid for the client",
            remedy: "look from outside: `hallmark jwks check CLIENT`; was the URL saved at the app integration, or a copy of the set?",
        },
        Refusal {
            says: "The audience claim for client_assertion must be the endpoint invoked for the request.",
            means: "`aud` is not the URL that was posted to: the org's own and a custom authorization server have different ones",
            remedy: "take `token_endpoint` from `hallmark discover URL`",
        },
        Refusal {
            says: "invalid_dpop_proof",
            means: "the app integration requires DPoP",
            remedy: "turn it off at the app integration, or send the proof from the caller",
        },
        Refusal {
            says: "invalid_client",
            means: "the client is not set to a public key, or the assertion does not fit",
            remedy: "`hallmark doctor CLIENT`; the org's system log has the reason",
        },
        ANY[1],
        ANY[2],
    ],
};
