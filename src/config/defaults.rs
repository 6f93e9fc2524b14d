//! The value of each key that may be left out, and why it is that one.

use std::time::Duration;

use hallmark_core::{
    client::{Custody, JwksHost, Provision},
    key::{Alg, KeySpec},
    policy::Roles,
    profile::Profile,
};

use super::{Approval, Rotation, value::Kind};

/// Five minutes: a change of keys reaches every verifier within that time, and a key is published long before it signs
/// in any case. Longer only delays a revocation.
pub(super) fn max_age() -> Duration {
    Duration::from_secs(300)
}

/// One day: who looks after a follower hears of it on the next working day, and verifiers do not notice before a key is
/// replaced, which waits for the follower.
pub(super) fn max_stale() -> Duration {
    Duration::from_secs(24 * 3600)
}

/// One minute: a restart of the store goes unnoticed, and a replica that is cut off from it does not go on for long
/// with a key that was revoked meanwhile.
pub(super) fn lease() -> Duration {
    Duration::from_secs(60)
}

/// Five minutes: what a thief of the log's folder could cut off unseen, for a signature that costs nothing.
pub(super) fn checkpoint_every() -> Duration {
    Duration::from_mins(5)
}

/// A file that is copied, searched and compressed in seconds; about 400,000 signatures.
pub(super) fn max_file_mib() -> u32 {
    256
}

/// Ten seconds: nothing in a key's life is more urgent, but for what an operator asks for, which does not wait. An hour
/// without an HSM is more than a restart, and long before anyone has bought another. Destroyed keys don't come back, and
/// nobody needs the room so soon that the server should decide. A month is what a CA and an authorization server's people take to
/// issue a certificate and to register it.
pub(super) fn rotation() -> Rotation {
    Rotation {
        every: Duration::from_secs(10),
        line_timeout: Duration::from_hours(1),
        destroy_after: None,
        require_rehearsal: false,
        certificate_warning: Duration::from_hours(30 * 24),
    }
}

/// Nothing waits: one operator is all that a small installation has. A day: a proposal of the evening is seen in the
/// morning, and none lies about until nobody knows why it was made.
pub(super) fn approval() -> Approval {
    Approval { require: Vec::new(), expires: Duration::from_hours(24) }
}

/// On a loopback address only this machine reads the JWKS, and it can use the address itself. Anything else has a name
/// that only the operator knows.
pub(super) fn public_url(scheme: &str, listen: std::net::SocketAddr) -> String {
    format!("{scheme}://{listen}")
}

/// Off: the list of methods is public, but nobody in production needs it from there.
pub(super) fn reflection() -> bool {
    false
}

/// In all, and from one address: room for the connections of ten thousand workloads, where a file descriptor and some ten
/// kilobytes each are nothing, and no address can have more than a third of it. A proxy that hides addresses may need more.
pub(super) fn connections() -> (u32, u32) {
    (12_000, 4_000)
}

/// No: `X-Forwarded-*` of whoever connects would be believed otherwise, and plain HTTP served to the world.
pub(super) fn behind_proxy() -> bool {
    false
}

/// Backend services: whoever may manage keys is worth writing down.
pub(super) fn trust_roles() -> Roles {
    Roles { workload: true, operator: false }
}

/// What issuers use: RSA with SHA-256 is what Kubernetes and most others sign with.
pub(super) fn algorithms() -> Vec<Alg> {
    vec![Alg::RS256, Alg::ES256, Alg::ES384, Alg::PS256]
}

/// The one kind that this version speaks.
pub(super) fn kind() -> Kind {
    Kind::Pkcs11
}

/// Four: enough to keep two cores busy with a soft token and to overlap the round trips of a network HSM, and few
/// enough for tokens that give out eight sessions.
pub(super) fn workers() -> u32 {
    4
}

/// What RFC 7523 and OpenID Connect Core ask for, without the additions of any one authorization server.
#[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
pub(super) fn profile() -> &'static Profile {
    // Unwrap safety: core names its own default.
    Profile::find(Profile::DEFAULT).unwrap()
}

/// One key, of the algorithm that the profile's verifiers take first.
pub(super) fn keys(profile: &Profile) -> Vec<KeySpec> {
    vec![KeySpec { alg: profile.default_alg(), rsa_bits: rsa_bits() }]
}

/// Of the lengths that every verifier takes the fastest. Where policy wants more, 3072 costs about five times as much
/// on a soft token.
pub(super) fn rsa_bits() -> u32 {
    KeySpec::DEFAULT_RSA_BITS
}

/// What an HSM is bought for: the key was born there and can't leave. Only the maker's attestation says more.
pub(super) fn custody() -> Custody {
    Custody::Local
}

/// An operator makes the first key: a server that finds an empty store, perhaps because it was given the wrong one,
/// must not make keys that no verifier knows.
pub(super) fn provision() -> Provision {
    Provision::Manual
}

/// One day: a bad rotation is found on the next working day, and can still be taken back.
pub(super) fn keep_for() -> Duration {
    Duration::from_secs(24 * 3600)
}

/// None: without a cache between Hallmark and the verifiers there is nothing more to wait for.
pub(super) fn edge_ttl() -> Duration {
    Duration::ZERO
}

/// Hallmark: it counts down and says at once what it serves. Files on a host of others are late by nature.
pub(super) fn jwks_host() -> JwksHost {
    JwksHost::Hallmark
}
