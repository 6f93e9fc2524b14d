//! HSMs as other replicas find them: what this process does not reach, another one may.

use std::collections::{BTreeMap, BTreeSet};

use hallmark_core::{
    key::{HsmName, KeyId},
    ports::HsmReport,
};

/// What the other replicas that live said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Those that the HSM works for, by name.
    reach: BTreeMap<HsmName, BTreeSet<String>>,
    /// What whoever sweeps reaches; `None` where nobody else said that it sweeps.
    swept: Option<BTreeSet<HsmName>>,
    unusable: BTreeMap<HsmName, BTreeSet<KeyId>>,
    failed: BTreeSet<String>,
}

impl Elsewhere {
    /// From each replica's name and report.
    pub(in crate::service) fn new(reports: Vec<(String, HsmReport)>) -> Self {
        let mut all = Self::default();
        for (instance, HsmReport { hsm, up, leads, unusable, failed }) in reports {
            if leads {
                all.swept.get_or_insert_default().extend(Some(hsm.clone()).filter(|_| up));
            }
            if up {
                all.reach.entry(hsm.clone()).or_default().insert(instance);
                all.unusable.entry(hsm).or_default().extend(unusable);
                all.failed.extend(failed);
            }
        }
        all
    }

    /// Whether `hsm` works for another replica.
    pub(in crate::service) fn reaches(&self, hsm: &HsmName) -> bool {
        self.reach.contains_key(hsm)
    }

    /// Whether `instance`, which reaches `hsm` and does not sweep, is the one to make keys there: whoever sweeps does not
    /// reach it, and of those who do it is the first by name. Two who think so at once make a key too many, which leaves
    /// again unpublished or as a surplus standby.
    pub(in crate::service) fn leaves_to(&self, instance: &str, hsm: &HsmName) -> bool {
        let swept = self.swept.as_ref().is_some_and(|swept| !swept.contains(hsm));
        let first = self.reach.get(hsm).and_then(|others| others.first()).is_none_or(|other| instance < other.as_str());
        swept && first
    }

    /// Keys that can't be used, on HSMs that only others reach.
    pub(in crate::service) fn unusable(&self, is_up_here: impl Fn(&HsmName) -> bool) -> impl Iterator<Item = KeyId> {
        let elsewhere = self.unusable.iter().filter(move |(hsm, _)| !is_up_here(hsm));
        elsewhere.flat_map(|(_, keys)| keys.iter().copied())
    }

    /// Whether a key of that line could not be made or destroyed where its HSM is.
    pub(in crate::service) fn has_failed(&self, line: &str) -> bool {
        self.failed.contains(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(instance: &str, hsm: &str, up: bool, leads: bool) -> (String, HsmReport) {
        let (unusable, failed) = (BTreeSet::new(), BTreeSet::from([format!("c/ES256/{hsm}")]));
        (instance.into(), HsmReport { hsm: hsm.parse().unwrap(), up, leads, unusable, failed })
    }

    #[test]
    fn keys_are_made_by_whoever_reaches_the_hsm() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let nobody = Elsewhere::new(vec![report("two", "b", true, false)]);
        assert!(!nobody.leaves_to("one", &a), "who sweeps is not known, and may reach it");
        let all = Elsewhere::new(vec![report("lead", "b", true, true), report("two", "a", true, false)]);
        assert!(all.leaves_to("one", &a) && !all.leaves_to("zulu", &a), "the first by name");
        assert!(!all.leaves_to("one", &b), "whoever sweeps does it itself");
        assert!(all.reaches(&a) && all.has_failed("c/ES256/a"));
        let down = Elsewhere::new(vec![report("lead", "b", false, true)]);
        assert!(down.leaves_to("one", &b) && !down.reaches(&b) && !down.has_failed("c/ES256/b"));
    }
}
