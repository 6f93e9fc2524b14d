//! Certificates run out: told of ahead of time, for nobody can renew one by himself.

use std::collections::BTreeMap;

use hallmark_core::{
    certificate::Validity,
    key::{KeyRecord, KeyState},
    time::Timestamp,
};

use super::{Parts, Rotation, alarms::Alarm};

impl Rotation {
    /// Shows when certificates end, and raises the alarm for those that end soon while somebody needs them. By each replica
    /// for itself: it takes nothing but the reading in force.
    pub(super) fn check_certificates(&self, now: Timestamp) {
        let Parts { context, rules, metrics, .. } = &self.0.parts;
        let (reading, registered) = (context.keyring.keys().clone(), context.registry.load_full());
        let (mut ends, mut soon) = (BTreeMap::new(), BTreeMap::new());
        let validities: BTreeMap<_, _> = reading.certificates().collect();
        // Records are gone through only where some have certificates.
        let records = reading.records.iter().filter(|_| !validities.is_empty());
        for (record, validity) in records.filter_map(|record| Some((record, validities.get(&record.id)?))) {
            let (Some(client), Some(public)) = (&record.client, &record.public) else { continue };
            ends.insert((client.to_string(), public.kid.to_string()), validity.not_after.secs());
            let shows = registered.clients.get(client).is_some_and(|client| client.makes.wants_certificate());
            if shows && is_needed(record) && validity.ends_within(rules.settings.certificate_warning, now) {
                soon.insert(format!("{client}/{}", public.kid), describe(record, validity, now));
            }
        }
        metrics.rotation().certificates(ends);
        self.0.alarms.replace(Alarm::Certificate, soon);
    }
}

/// Whether it signs, or will.
fn is_needed(record: &KeyRecord) -> bool {
    matches!(record.state, KeyState::Active | KeyState::PreActive)
}

fn describe(record: &KeyRecord, validity: &Validity, now: Timestamp) -> String {
    let days = validity.not_after.since(now).as_secs() / 86_400;
    let when = match days {
        _ if validity.not_after < now => "has expired, and nothing is signed with it".to_owned(),
        0 => "expires within a day".to_owned(),
        1 => "expires in 1 day".to_owned(),
        days => format!("expires in {days} days"),
    };
    format!(
        "the certificate of the {} key {when}; see `hallmark csr` and NO_CERTIFICATE in docs/OPERATIONS.md",
        record.state
    )
}
