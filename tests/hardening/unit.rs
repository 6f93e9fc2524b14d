//! The systemd units, as systemd reads them.

use std::process::Command;

use crate::support::faketime::are_installed;

pub(super) const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/hallmark.service");
const FOLLOWER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/hallmark-jwks.service");

/// systemd's own measure of what a service could do, from 0 (nothing) to 10.
#[test]
fn the_units_expose_next_to_nothing() {
    if !are_installed(&["systemd-analyze"]) {
        return;
    }
    for (unit, limit) in [(UNIT, "15"), (FOLLOWER, "15")] {
        // Above the threshold, ten times the level, it exits with 1.
        let arguments = ["security", "--offline=yes", "--no-pager", "--threshold", limit, unit];
        let output = Command::new("systemd-analyze").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("Overall exposure level"), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{unit}:\n{said}");
    }
}

/// All values of a setting, in their order; one that is set to nothing has one that is empty.
pub(super) fn values(unit: &str, setting: &str) -> Vec<String> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    lines.map(|value| value.trim().to_owned()).collect()
}

/// The names of all calls that a unit's `SystemCallFilter=` lines let through.
pub(super) fn allowed(unit: &str) -> Vec<String> {
    let mut allowed = Vec::new();
    for line in values(unit, "SystemCallFilter") {
        match line.strip_prefix('~') {
            Some(denied) => {
                let denied = expand(denied);
                allowed.retain(|call| !denied.contains(call));
            }
            None => allowed.extend(expand(&line)),
        }
    }
    allowed
}

/// Groups as this machine's systemd knows them, groups within them too.
fn expand(words: &str) -> Vec<String> {
    let (groups, mut calls): (Vec<_>, Vec<_>) =
        words.split_whitespace().map(str::to_owned).partition(|word| word.starts_with('@'));
    for group in groups {
        let output = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", &group]).output().unwrap();
        assert!(output.status.success(), "{group}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let members = said.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        calls.extend(
            members.flat_map(|member| if member.starts_with('@') { expand(member) } else { vec![member.to_owned()] }),
        );
    }
    calls
}
