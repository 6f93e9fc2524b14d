//! What an operator should hear of: logged once when it begins and once when it ends, and counted as a metric.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::telemetry::Metrics;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A round could not be brought to its end.
    Sweep,
    /// The wall clock departed from the monotonic one.
    Clock,
    /// Replicas have different policies for a client.
    Policies,
    /// Another key should sign by now.
    Overdue,
    /// A key could not be made or destroyed.
    Act,
    /// Moves of a client's keys could not be written.
    Moves,
    /// An HSM has been down for `line_timeout`.
    HsmGone,
    /// A certificate that is needed ends soon, or has ended.
    Certificate,
    /// A revocation holds in this process alone.
    Revocation,
    /// A static host does not show what it should.
    PublicUrl,
    /// The configuration and the store have two `client_id`s for one client.
    ClientId,
}

impl Alarm {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Clock => "clock",
            Self::Policies => "policies",
            Self::Overdue => "overdue",
            Self::Act => "act",
            Self::Moves => "moves",
            Self::HsmGone => "hsm-gone",
            Self::Certificate => "certificate",
            Self::Revocation => "revocation",
            Self::PublicUrl => "public-url",
            Self::ClientId => "client-id",
        }
    }
}

/// The alarms that are on, each with its subject and reason.
pub(super) struct Alarms {
    metrics: Arc<Metrics>,
    on: Mutex<BTreeMap<Alarm, BTreeMap<String, String>>>,
}

impl Alarms {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, on: Mutex::default() }
    }

    /// One alarm begins, goes on or ends.
    pub(super) fn set(&self, alarm: Alarm, subject: &str, why: Option<String>) {
        let mut all = self.of(alarm);
        match why {
            Some(why) => all.insert(subject.to_owned(), why),
            None => all.remove(subject),
        };
        self.replace(alarm, all);
    }

    /// These subjects are in trouble of that kind, and no others.
    pub(super) fn replace(&self, alarm: Alarm, now: BTreeMap<String, String>) {
        let mut on = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        let before = on.insert(alarm, now.clone()).unwrap_or_default();
        drop(on);
        let kind = alarm.as_str();
        let begun: Vec<_> = now.iter().filter(|(subject, _)| !before.contains_key(*subject)).collect();
        for (subject, why) in begun.iter().take(MOST_LINES) {
            tracing::error!(alarm = kind, subject, why, "alarm");
        }
        if begun.len() > MOST_LINES {
            tracing::error!(alarm = kind, more = begun.len() - MOST_LINES, "alarm: and others of the same kind");
        }
        let ended: Vec<_> = before.keys().filter(|subject| !now.contains_key(*subject)).collect();
        for subject in ended.iter().take(MOST_LINES) {
            tracing::error!(alarm = kind, subject, "alarm is over");
        }
        if ended.len() > MOST_LINES {
            tracing::error!(alarm = kind, more = ended.len() - MOST_LINES, "alarms are over: others of the same kind");
        }
        self.metrics.rotation().alarms(kind, now.len());
    }

    /// What is wrong of that kind, by subject.
    pub(super) fn of(&self, alarm: Alarm) -> BTreeMap<String, String> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner).get(&alarm).cloned().unwrap_or_default()
    }
}

/// One HSM may hold up ten thousand clients, and a log is for reading.
const MOST_LINES: usize = 20;
