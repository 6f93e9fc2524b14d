//! What one client's keys must obey.

use std::{fmt::Write, time::Duration};

use aws_lc_rs::digest;

use super::gates;
use crate::{
    client::{Client, JwksHost, Provision},
    key::{Alg, ClientName, KeyLine, KeyRecord, KeySpec, Purpose},
    profile::Binding,
};

/// What one client's keys must obey: made of its configuration, its profile and the server's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPolicy {
    pub client: ClientName,
    /// The lines that it is to have, RSA first.
    pub lines: Vec<LinePolicy>,
    /// For how long a key must have been served before it signs: [`gates::lead`].
    pub lead: Duration,
    /// For how long a key that signed stays published: [`gates::keep`].
    pub keep: Duration,
    /// When keys that ended are destroyed on the HSM; `None`: when an operator says so.
    pub destroy_after: Option<Duration>,
    /// For how long a replica may sign without news from the store.
    pub store_lease: Duration,
    pub binding: Binding,
    /// Its assertions show a certificate, so that a key without one can't sign.
    pub certificate: bool,
    pub provision: Provision,
    /// The verifier takes the first RSA key of the set, whatever the `kid`: signing pauses before a swap.
    pub first_rsa_key: bool,
    /// Exported files are what verifiers read: a key is served once it was seen there.
    pub static_host: bool,
    /// A key must have been seen at the public URL, as from outside, before it signs.
    pub rehearse: bool,
    /// Of what is configured, in hexadecimal. Replicas whose digests differ must not sweep this client.
    pub digest: String,
}

/// What one key line must obey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinePolicy {
    pub line: KeyLine,
    pub spec: KeySpec,
    /// How often its key is replaced; `None`: when an operator says so.
    pub rotate: Option<Duration>,
}

/// What the server's settings and the store say about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest `max-age` that a verifier may be told.
    pub max_age: Duration,
    /// The longest that this client's verifier was told, and that may not have run out yet; a copy in between may go on
    /// telling it for `edge_ttl`.
    pub max_age_high_water: Duration,
    pub store_lease: Duration,
    pub destroy_after: Option<Duration>,
    pub rehearse: bool,
}

impl KeyPolicy {
    /// Of a configured client; `rotate` says how often its keys of an algorithm are replaced.
    pub fn new(client: &Client, rotate: impl Fn(Alg) -> Option<Duration>, settings: &Settings) -> Self {
        let line = |(line, spec): (KeyLine, KeySpec)| LinePolicy { rotate: rotate(line.alg), line, spec };
        let mut policy = Self {
            lines: client.key_lines().into_iter().map(line).collect(),
            lead: gates::lead(settings.max_age, client.lead, client.edge_ttl),
            keep: gates::keep(client.keep_for, settings.store_lease, settings.max_age),
            binding: client.profile.binding,
            certificate: client.makes.wants_certificate(),
            provision: client.provision,
            first_rsa_key: client.profile.jwks.first_rsa_key,
            static_host: client.jwks_host == JwksHost::Static,
            ..Self::of_removed(client.name.clone(), settings)
        };
        // Before the high-water mark comes in: that is the store's, not the configuration's.
        policy.digest = digest(&policy);
        policy.raise(gates::lead(settings.max_age_high_water, client.lead, client.edge_ttl), settings);
        policy
    }

    /// Of a client that is no longer configured: it has no lines, so that its keys leave as their gates pass.
    pub fn of_removed(client: ClientName, settings: &Settings) -> Self {
        let longest = settings.max_age.max(settings.max_age_high_water);
        let mut policy = Self {
            client,
            lines: Vec::new(),
            lead: gates::lead(longest, Duration::ZERO, Duration::ZERO),
            keep: gates::keep(KEEP_REMOVED, settings.store_lease, longest),
            destroy_after: settings.destroy_after,
            store_lease: settings.store_lease,
            binding: Binding::Jwks,
            certificate: false,
            provision: Provision::Manual,
            first_rsa_key: false,
            static_host: false,
            rehearse: settings.rehearse,
            digest: String::new(),
        };
        policy.digest = digest(&policy);
        policy
    }

    /// What `line` must obey, where the client is to have it.
    pub fn line(&self, line: &KeyLine) -> Option<&LinePolicy> {
        self.lines.iter().find(|policy| policy.line == *line)
    }

    /// Whether `record` is a key of this client's assertions.
    pub fn governs(&self, record: &KeyRecord) -> bool {
        record.purpose == Purpose::Assertion && record.client.as_ref() == Some(&self.client)
    }

    fn raise(&mut self, lead: Duration, settings: &Settings) {
        self.lead = self.lead.max(lead);
        self.keep = self.keep.max(gates::keep(Duration::ZERO, settings.store_lease, settings.max_age_high_water));
    }
}

/// A removed client's own `keep_for` is not known any more; this is the default.
const KEEP_REMOVED: Duration = Duration::from_secs(24 * 3600);

#[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
fn digest(policy: &KeyPolicy) -> String {
    let mut text = format!(
        "v1\n{}\nlead {:?}\nkeep {:?}\ndestroy {:?}\nlease {:?}\n{:?} {:?} {} {}\n",
        policy.client,
        policy.lead,
        policy.keep,
        policy.destroy_after,
        policy.store_lease,
        policy.binding,
        policy.provision,
        policy.first_rsa_key,
        policy.rehearse,
    );
    // Neither is a member of its own: replicas of before have the same digest where nobody uses it.
    if policy.static_host {
        text += "static host\n";
    }
    if policy.certificate {
        text += "certificate\n";
    }
    for LinePolicy { line, spec, rotate } in &policy.lines {
        // Unwrap safety: writing to a string does not fail.
        writeln!(text, "{line} {} {rotate:?}", spec.rsa_bits).unwrap();
    }
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
