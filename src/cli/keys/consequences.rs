//! What a change means for verifiers, told before it is made.

use hallmark_client::{Confirmation, Key, KeyAction, KeyState};

/// As it is typed.
pub(super) fn word(action: KeyAction) -> &'static str {
    match action {
        KeyAction::Activate => "activate",
        KeyAction::Deactivate => "deactivate",
        KeyAction::Revoke => "revoke",
        KeyAction::Retire => "retire",
        KeyAction::Destroy => "destroy",
        KeyAction::Confirm(_) => "confirm",
    }
}

/// Once it is done.
pub(super) fn past(action: KeyAction) -> &'static str {
    match action {
        KeyAction::Activate => "activated",
        KeyAction::Deactivate => "deactivated",
        KeyAction::Revoke => "revoked",
        KeyAction::Retire => "retired",
        KeyAction::Destroy => "destroyed",
        KeyAction::Confirm(Confirmation::Registered) => "confirmed as registered:",
        KeyAction::Confirm(Confirmation::Rehearsed) => "confirmed as seen at the public JWKS URL:",
    }
}

/// `keys` are those of the key's client.
pub(super) fn of(action: KeyAction, key: &Key, keys: &[Key], force: bool) -> String {
    let mut lines = vec![format!("{} {}", word(action), described(key))];
    let standby = standby(key, keys);
    match action {
        KeyAction::Activate => {
            lines.push("Hallmark signs with it at once, and the key that is active is deactivated.".into())
        }
        KeyAction::Deactivate => {
            lines.push("It stays in the JWKS: verifiers go on accepting what it signed until that expires.".into());
            lines.extend(was_active(key).then(|| successor(key, standby)));
        }
        KeyAction::Revoke => {
            lines.push("It leaves the JWKS at once, and never comes back.".into());
            lines.push(KEEPERS.into());
            lines.extend(was_active(key).then(|| successor(key, standby)));
        }
        KeyAction::Retire => {
            lines.push("It leaves the JWKS, and never comes back.".into());
            lines.push("Verifiers refuse what it signed as soon as they have read the JWKS again.".into());
        }
        KeyAction::Destroy => lines.extend(destruction(key)),
        KeyAction::Confirm(_) => {}
    }
    lines.extend((force && action != KeyAction::Revoke).then(|| forced(action).to_owned()));
    text(&lines)
}

/// Of a rotation past the gate. `keys` are those of the client.
pub(super) fn of_forced_rotation(client: &str, alg: Option<&str>, keys: &[Key]) -> String {
    let mut lines = vec![format!("rotate `{client}`")];
    let ours = |key: &&Key| key.state == KeyState::Active && alg.is_none_or(|alg| key.alg == alg);
    for key in keys.iter().filter(ours) {
        lines.push(format!(
            "{} stops signing and stays in the JWKS. {}",
            described(key),
            successor(key, standby(key, keys))
        ));
    }
    lines.push(forced(KeyAction::Activate).to_owned());
    text(&lines)
}

fn described(key: &Key) -> String {
    let (kid, client) = (key.kid.as_deref().unwrap_or("?"), key.client.as_deref().unwrap_or("no client"));
    format!("`{kid}` (`{client}`, {} on {}, {})", key.alg, key.hsm, key.state)
}

fn was_active(key: &Key) -> bool {
    key.state == KeyState::Active
}

/// The one that is published and waits in the same line.
fn standby<'a>(key: &Key, keys: &'a [Key]) -> Option<&'a Key> {
    let mut waiting = keys.iter().filter(|other| {
        other.state == KeyState::PreActive
            && other.published_at.is_some()
            && other.id != key.id
            && (&other.client, &other.alg, &other.hsm) == (&key.client, &key.alg, &key.hsm)
    });
    waiting.next()
}

fn successor(key: &Key, standby: Option<&Key>) -> String {
    match standby.and_then(|standby| standby.kid.as_ref()) {
        Some(kid) => format!("From then on `{kid}` signs, if verifiers have had the time to read it."),
        None => {
            let client = key.client.as_deref().unwrap_or("?");
            format!(
                "Its line has no standby: nobody can sign for `{client}` with {} until there is a new key.",
                key.alg
            )
        }
    }
}

fn destruction(key: &Key) -> Vec<String> {
    let mut lines = vec![format!("The private key is gone from `{}` for good; the record stays.", key.hsm)];
    lines.push(match key.state {
        KeyState::Retired | KeyState::Compromised => "Verifiers see no change: it is not in the JWKS.".into(),
        _ => format!("It is {}: only a retired or compromised key can be destroyed.", key.state),
    });
    lines
}

fn forced(action: KeyAction) -> &'static str {
    match action {
        KeyAction::Retire => {
            "--force: assertions that it signed may be under way still; verifiers that read the JWKS anew refuse them."
        }
        KeyAction::Destroy => "--force: it goes before the time that the configuration keeps such keys.",
        _ => {
            "--force: verifiers that have not read the new key yet refuse what it signs until they read the JWKS again; \
             `hallmark rotation plan` says when that would not happen."
        }
    }
}

fn text(lines: &[String]) -> String {
    lines.iter().enumerate().map(|(at, line)| format!("{}{line}\n", if at == 0 { "" } else { "  " })).collect()
}

const KEEPERS: &str = "Verifiers refuse what it signed as soon as they have read the JWKS again, at the latest when the copy \
                       that they keep runs out; the answer says when.";
