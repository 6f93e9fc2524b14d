//! The systems, each with its rules. Written from what was measured, read and documented of them, and without a look at
//! `core/src/profile/`: where the two disagree, one of them is wrong.

use super::rules::{
    Aud, EITHER, ISSUER, Iss, Jti, Jwk, Keys, Kid, ONCE, SMART, System, TOKEN_ENDPOINT, Times, Typ, VALID,
};

const RSA_AND_EC: &[&str] =
    &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"];

pub(super) const SYSTEMS: &[System] = &[
    SMART,
    // The common ground of RFC 7523 and OpenID Connect Core §9, whose dates and `jti` everybody takes.
    System {
        profile: "generic",
        evidence: "specification: RFC 7523 §3, RFC 7521 §4.2, OpenID Connect Core §9",
        guessed: &["typ", "alg"],
        algs: RSA_AND_EC,
        typ: Typ::JwtIfPresent,
        kid: Kid::Optional,
        jku: false,
        ..SMART
    },
    System {
        profile: "smart-2018",
        evidence: "specification: SMART Backend Services, text of January 2018",
        guessed: &["kid", "typ"],
        algs: &["RS256"],
        kid: Kid::Absent,
        jku: false,
        keys: Keys::Pem,
        iss: Iss::Registered,
        jwk: &[],
        ..SMART
    },
    System {
        profile: "smart-bulk-data-server",
        evidence: "measured, and source: smart-on-fhir/bulk-data-server",
        algs: &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"],
        times: VALID,
        jti: Jti { required: false, longest: usize::MAX, once: false },
        jwk: &[Jwk::Kid, Jwk::VerifyIfPresent],
        ..SMART
    },
    System {
        profile: "epic",
        evidence: "documentation: Epic on FHIR, OAuth 2.0",
        algs: &["RS256", "RS384", "RS512", "ES256", "ES384"],
        typ: Typ::JwtIfPresent,
        times: Times { ahead: Some(300), long: Some(300), ..VALID },
        jti: Jti { longest: 151, ..ONCE },
        ..SMART
    },
    System {
        profile: "oracle-health",
        evidence: "documentation: Oracle Health, authorization framework",
        guessed: &["jku", "exp", "iat", "nbf", "jti"],
        ..SMART
    },
    System {
        profile: "ecw-healow",
        evidence: "documentation of integrators",
        guessed: &["jku", "iat", "nbf", "jti", "typ"],
        algs: &["RS384"],
        ..SMART
    },
    System {
        profile: "webchart",
        evidence: "documentation: MIE WebChart, smart-configuration and Login Trusts",
        guessed: &["kid", "typ", "jku", "iss", "sub", "exp", "iat", "nbf", "jti"],
        algs: &["RS384"],
        kid: Kid::Optional,
        keys: Keys::Pem,
        jwk: &[],
        ..SMART
    },
    System {
        profile: "openemr-7",
        evidence: "measured, and source: OpenEMR 7, CustomClientCredentialsGrant, JsonWebKeySet, RsaSha384Signer",
        algs: &["RS384"],
        typ: Typ::Any,
        kid: Kid::Ignored,
        jku: false,
        keys: Keys::FirstRsa,
        aud: Aud { array: true, ..TOKEN_ENDPOINT },
        times: Times { skew: 60, ..VALID },
        jti: Jti { longest: 100, ..ONCE },
        ..SMART
    },
    System {
        profile: "openemr-8",
        evidence: "source: OpenEMR 8.x-dev, JWTClientAuthenticationService and the hardened key set",
        algs: &["RS384"],
        typ: Typ::Any,
        jku: false,
        aud: Aud { array: true, ..TOKEN_ENDPOINT },
        times: Times { ahead: Some(24 * 3600), old: Some(300), skew: 60, ..VALID },
        jti: Jti { longest: 100, ..ONCE },
        jwk: &[Jwk::Kid, Jwk::UseIfPresent, Jwk::Rs384IfPresent, Jwk::RsaOnly],
        ..SMART
    },
    System {
        profile: "careevolution",
        evidence: "documentation: BackendServicesAuthorization; source: ExampleFhirClient, IdentityServer3",
        guessed: &["kid", "typ"],
        algs: &["RS256"],
        kid: Kid::Absent,
        jku: false,
        keys: Keys::Uploaded("x5t"),
        times: Times { skew: 300, ..VALID },
        form: &[("client_id", "")],
        jwk: &[],
        ..SMART
    },
    System {
        profile: "cerner-carequality-2019",
        evidence: "source: the signing script of the connectathon's guide",
        guessed: &["typ", "kid", "iss", "aud", "jti", "iat", "nbf"],
        algs: &["RS256"],
        typ: Typ::Absent,
        kid: Kid::Absent,
        jku: false,
        keys: Keys::Leaf,
        iss: Iss::Registered,
        jwk: &[],
        ..SMART
    },
    System {
        profile: "udap-b2b",
        evidence: "specification: HL7 UDAP Security IG; source: Inferno's test kit",
        guessed: &["kid", "typ"],
        algs: &["RS256", "ES256", "RS384", "ES384"],
        typ: Typ::JwtIfPresent,
        kid: Kid::Absent,
        jku: false,
        keys: Keys::Leaf,
        times: Times { long: Some(300), iat: true, ..VALID },
        b2b: true,
        form: &[("udap", "1")],
        jwk: &[],
        ..SMART
    },
    System {
        profile: "entra",
        evidence: "documentation: Microsoft, certificate credentials",
        guessed: &["kid"],
        algs: &["PS256", "RS256"],
        kid: Kid::Absent,
        jku: false,
        keys: Keys::Uploaded("x5t#S256"),
        times: Times { ahead: Some(600), nbf: true, ..VALID },
        jti: Jti { once: false, ..ONCE },
        form: &[("client_id", "")],
        jwk: &[],
        ..SMART
    },
    System {
        profile: "auth0",
        evidence: "documentation: Auth0, Authenticate with Private Key JWT",
        guessed: &["aud", "typ"],
        algs: &["RS256", "RS384", "PS256"],
        typ: Typ::JwtIfPresent,
        kid: Kid::Optional,
        jku: false,
        keys: Keys::Pem,
        aud: EITHER,
        times: Times { long: Some(300), ..VALID },
        jwk: &[],
        ..SMART
    },
    System {
        profile: "okta",
        evidence: "documentation: Okta, client authentication methods",
        guessed: &["alg", "typ", "exp", "jti", "iat", "nbf"],
        algs: RSA_AND_EC,
        typ: Typ::JwtIfPresent,
        jku: false,
        times: Times { ahead: Some(3600), ..VALID },
        ..SMART
    },
    System {
        profile: "keycloak",
        evidence: "source: Keycloak, JWTClientAuthenticator and AbstractJWTClientValidator",
        algs: RSA_AND_EC,
        alg_registered: true,
        typ: Typ::Any,
        kid: Kid::Optional,
        jku: false,
        aud: EITHER,
        times: Times { ahead_without_iat: Some(60), skew: 15, ..VALID },
        jwk: &[Jwk::Use],
        ..SMART
    },
    System {
        profile: "oidc-provider",
        evidence: "measured: oidc-provider 9",
        algs: RSA_AND_EC,
        alg_registered: true,
        typ: Typ::Any,
        kid: Kid::Optional,
        jku: false,
        aud: EITHER,
        times: Times { skew: 15, ..VALID },
        jwk: &[Jwk::NoPrivate, Jwk::VerifyIfPresent],
        ..SMART
    },
    System {
        profile: "hydra",
        evidence: "source: ory/hydra and ory/fosite",
        algs: &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"],
        alg_registered: true,
        typ: Typ::Any,
        kid: Kid::Optional,
        jku: false,
        times: VALID,
        form: &[("client_id", "")],
        jwk: &[Jwk::Use],
        ..SMART
    },
    System {
        profile: "rfc7523bis",
        evidence: "specification: draft-ietf-oauth-rfc7523bis-09",
        guessed: &["alg", "jti", "exp"],
        algs: RSA_AND_EC,
        typ: Typ::ClientAuthentication,
        kid: Kid::Optional,
        jku: false,
        aud: ISSUER,
        ..SMART
    },
    System {
        profile: "fapi2",
        evidence: "specification: FAPI 2.0 Security Profile",
        guessed: &["typ", "jti", "exp"],
        algs: &["PS256", "ES256", "EdDSA"],
        typ: Typ::ClientAuthentication,
        kid: Kid::Optional,
        jku: false,
        aud: ISSUER,
        times: Times { ahead: Some(300), skew: 10, ..VALID },
        ..SMART
    },
];
