//! What one system checks, as a table, and how that is known.

/// One authorization server. What is not here it does not check.
#[derive(Debug)]
pub(super) struct System {
    /// The profile whose assertions it must take.
    pub(super) profile: &'static str,
    /// Strongest first: running it, its source, a specification, its documentation.
    pub(super) evidence: &'static str,
    /// Rules that nobody vouches for. Hallmark keeps to them; no case says that an assertion is refused for one.
    pub(super) guessed: &'static [&'static str],
    pub(super) algs: &'static [&'static str],
    /// Of those, the one that was registered for the client.
    pub(super) alg_registered: bool,
    pub(super) typ: Typ,
    pub(super) kid: Kid,
    /// `jku`, where there is one, must be the URL that was registered.
    pub(super) jku: bool,
    pub(super) keys: Keys,
    pub(super) iss: Iss,
    pub(super) aud: Aud,
    pub(super) times: Times,
    pub(super) jti: Jti,
    /// `extensions.hl7-b2b`.
    pub(super) b2b: bool,
    /// Fields beside the usual ones. An empty value: the `client_id`.
    pub(super) form: &'static [(&'static str, &'static str)],
    /// What it wants of each key of the set.
    pub(super) jwk: &'static [Jwk],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typ {
    Any,
    Jwt,
    JwtIfPresent,
    ClientAuthentication,
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kid {
    Required,
    /// Needed where more than one key would fit.
    Optional,
    Ignored,
    Absent,
}

/// Where it has the key from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// The set, by `kid` and `kty`.
    Set,
    FirstRsa,
    /// The certificate in `x5c`, by an authority that it trusts.
    Leaf,
    /// The certificate that was uploaded, named by this header member.
    Uploaded(&'static str),
    /// The public key that was uploaded.
    Pem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Iss {
    ClientId,
    /// What was registered beside the `client_id`.
    Registered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aud {
    pub(super) token_endpoint: bool,
    pub(super) issuer: bool,
    pub(super) array: bool,
}

/// In seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// The latest `exp` from now.
    pub(super) ahead: Option<i64>,
    /// The longest from `iat` (and `nbf`) to `exp`.
    pub(super) long: Option<i64>,
    /// The latest `exp` from now, where there is no `iat`.
    pub(super) ahead_without_iat: Option<i64>,
    /// The oldest `iat`.
    pub(super) old: Option<i64>,
    pub(super) iat: bool,
    pub(super) nbf: bool,
    pub(super) skew: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jti {
    pub(super) required: bool,
    pub(super) longest: usize,
    pub(super) once: bool,
}

/// What it looks at in each key of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jwk {
    Kid,
    /// `use` is there and `sig`.
    Use,
    /// `use`, where it is there, is `sig`.
    UseIfPresent,
    /// `alg`, where it is there, is RS384.
    Rs384IfPresent,
    /// `key_ops`, where they are there, hold `verify`.
    VerifyIfPresent,
    /// One key with private members spoils the set.
    NoPrivate,
    RsaOnly,
}

pub(super) const TOKEN_ENDPOINT: Aud = Aud { token_endpoint: true, issuer: false, array: false };
pub(super) const ISSUER: Aud = Aud { token_endpoint: false, issuer: true, array: false };
pub(super) const EITHER: Aud = Aud { token_endpoint: true, issuer: true, array: false };
/// No limit but that of validity itself.
pub(super) const VALID: Times =
    Times { ahead: None, long: None, ahead_without_iat: None, old: None, iat: false, nbf: false, skew: 0 };
pub(super) const ONCE: Jti = Jti { required: true, longest: usize::MAX, once: true };

/// SMART App Launch 2.2, `client-confidential-asymmetric`; what others say they follow.
pub(super) const SMART: System = System {
    profile: "smart-v2",
    evidence: "specification: SMART App Launch 2.2, Client Authentication: Asymmetric",
    guessed: &[],
    algs: &["RS384", "ES384"],
    alg_registered: false,
    typ: Typ::Jwt,
    kid: Kid::Required,
    jku: true,
    keys: Keys::Set,
    iss: Iss::ClientId,
    aud: TOKEN_ENDPOINT,
    times: Times { ahead: Some(300), ..VALID },
    jti: ONCE,
    b2b: false,
    form: &[],
    jwk: &[Jwk::Kid],
};
