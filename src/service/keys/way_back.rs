//! How a rotation is taken back: for each key that signed until now, the command that makes it sign again.

use hallmark_core::{
    error::Reason,
    key::{KeyRecord, KeyState, Kid},
    lifecycle::{KeyPolicy, Now, operator},
};

/// A sentence for each of `keys` that was active before. The command is whole: it has `--force` where the rules would
/// refuse it without, as for a key that was itself made a moment ago.
pub(super) fn advice(policy: &KeyPolicy, records: &[KeyRecord], now: &Now, keys: &[KeyRecord]) -> Vec<String> {
    let wish = operator::Wish { reason: String::new(), force: false };
    let of = |record: &KeyRecord| {
        let kid = &record.public.as_ref()?.kid;
        match operator::activate(policy, records, now, record.id, &wish) {
            Ok(_) => Some(format!("to take it back: {}", command(kid, ""))),
            Err(error) if error.reason == Reason::GateShut => {
                let forced = command(kid, " --force");
                Some(format!(
                    "to take it back: {forced}; without `--force` it would be refused: {}",
                    why(&error.message)
                ))
            }
            // It never signs again.
            Err(_) => None,
        }
    };
    keys.iter().filter(|record| record.state == KeyState::Deactivated).filter_map(of).collect()
}

/// A kid that looks like an option comes last.
fn command(kid: &Kid, force: &str) -> String {
    match kid.as_str() {
        kid if kid.starts_with('-') => format!("hallmark keys activate --reason TEXT{force} -- {kid}"),
        kid => format!("hallmark keys activate {kid} --reason TEXT{force}"),
    }
}

/// Without what the command says already.
fn why(message: &str) -> &str {
    message.strip_suffix("; `--force` goes through").unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_is_no_option() {
        let typed = |kid: &str| command(&kid.parse().unwrap(), " --force");
        assert_eq!(typed("a-b"), "hallmark keys activate a-b --reason TEXT --force");
        assert_eq!(typed("-ab"), "hallmark keys activate --reason TEXT --force -- -ab");
    }
}
