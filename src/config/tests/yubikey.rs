//! `[[hsm]]` of `kind = "yubikey"`: what fits, and what is refused.

use super::*;

/// `count` clients with an RSA and an EC key on a YubiKey with `slots`, and what else its section has.
fn text(count: usize, more: &str) -> String {
    let (server, _) = MINIMAL.split_once("[[hsm]]").unwrap();
    let hsm = format!(
        "[[hsm]]\nname = \"main\"\nkind = \"yubikey\"\npin_source = \"file:pin\"\nmanagement_key_source = \"file:mgm\"\n{more}\n"
    );
    let keys = "keys = [{ alg = \"RS384\" }, { alg = \"ES384\" }]\n";
    let clients: String = (0..count).map(|n| CLIENT.replace("epic", &format!("epic-{n}")) + keys).collect();
    [server, &hsm, &clients].concat()
}

fn refusal(text: &str) -> String {
    load_text(text).1.unwrap_err().to_string()
}

#[test]
fn a_yubikey_has_slots_for_seven_lines() {
    let (_dir, config) = loaded(&text(3, ""));
    let Device::Yubikey(yubikey) = &config.hsms[0].device else { panic!("not a YubiKey") };
    assert_eq!((yubikey.serial, yubikey.slots.len(), config.hsms[0].workers), (None, 24, 1));
    assert_eq!(slots_needed(&config.hsms[0].name, &config.clients), 19);
    assert!(yubikey.management_key_source.starts_with("file:/"));

    let refused = refusal(&text(4, ""));
    for part in ["`main` has 24 slots", "needs 25", "8 key lines", "7 key lines fit"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(
        refusal(&text(1, "slots = [\"82\", \"83\", \"9e\"]")).contains("has 3 slots, and the configuration needs 7")
    );
}

#[test]
fn a_secret_is_never_shown() {
    let refused = refusal(&text(1, "").replace("\"file:mgm\"", "\"0102030405060708\""));
    assert!(refused.contains("not a reference to a management key") && !refused.contains("01020304"), "{refused}");
}

#[test]
fn keys_that_are_rotated_and_never_destroyed_are_a_warning() {
    let rotated = text(1, "").replace("alg = \"RS384\"", "alg = \"RS384\", rotate = \"90d\"");
    let warned = |text: &str| loaded(text).1.warnings.iter().any(|warning| warning.hint.contains("destroy_after"));
    assert!(warned(&rotated) && !warned(&text(1, "")));
    assert!(!warned(&(rotated + "[rotation]\ndestroy_after = \"30d\"\n")));
}

#[test]
fn several_yubikeys_are_told_apart_by_their_serials() {
    let (server, rest) = (text(0, "serial = 1"), text(0, "").replace("\"main\"", "\"other\""));
    let (_, other) = rest.split_once("[[hsm]]").unwrap();
    let both = |serial: &str| format!("{server}[[hsm]]{other}{serial}\n");
    assert!(load_text(&both("serial = 2")).1.is_ok());
    assert!(refusal(&both("serial = 1")).contains("two HSMs are one YubiKey"));
    assert!(refusal(&both("")).contains("each needs its `serial`"));
}
