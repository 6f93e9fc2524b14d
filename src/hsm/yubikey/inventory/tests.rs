use hallmark_core::public_key::Curve;

use super::{super::names, *};

/// A P-256 key of which only its difference from others matters.
fn public(n: u8) -> PublicKey {
    PublicKey::from_ec_point(Curve::P256, &[&[4][..], &[n; 64]].concat()).unwrap()
}

fn key(n: u8) -> Option<Key> {
    Some(Key { public: Some(public(n)), policy: Some((PinPolicy::Once, TouchPolicy::Never)), generated: true })
}

fn ours(mark: Mark, id: u8, spki: &PublicKey) -> Object {
    let (cka_id, label) = (vec![id; 16], format!("key-{id}"));
    Object::Ours(names::Named { mark, cka_id, label, spki: spki.spki().to_vec() })
}

fn held(slot: u8, key: Option<Key>, object: Object) -> Held {
    Held { slot: Slot::new(slot).unwrap(), key, object }
}

fn foreign() -> Object {
    Object::Foreign("a certificate of `CN=SSH`".to_owned())
}

fn wanted<'a>(cka_id: &'a [u8], public: &'a PublicKey) -> KeyRef<'a> {
    KeyRef { cka_id, label: "key-1", public, custody: Custody::Local }
}

#[test]
fn a_slot_is_nobodys_only_where_nothing_of_others_is_lost() {
    let nobodys = [
        held(0x82, None, Object::Nothing),
        held(0x82, None, ours(Mark::Reserved, 1, &public(9))),
        held(0x82, None, ours(Mark::Key, 1, &public(9))),
        held(0x82, key(1), ours(Mark::Destroyed, 1, &public(1))),
    ];
    assert!(nobodys.iter().all(|held| held.owner() == Owner::Nobody));
    let taken = [
        held(0x82, key(1), Object::Nothing),
        held(0x82, key(1), foreign()),
        held(0x82, None, foreign()),
        held(0x82, key(1), ours(Mark::Key, 1, &public(1))),
        // After a crash right behind the generation.
        held(0x82, key(1), ours(Mark::Reserved, 1, &public(9))),
        // Another program made a key there since.
        held(0x82, key(2), ours(Mark::Destroyed, 1, &public(1))),
        held(0x82, key(2), ours(Mark::Key, 1, &public(1))),
    ];
    for (n, held) in taken.iter().enumerate() {
        assert_ne!(held.owner(), Owner::Nobody, "{n}");
    }
    let is_ours = |held: &Held| matches!(held.owner(), Owner::Pair { is_ours: true, .. });
    assert_eq!(taken.each_ref().map(is_ours), [false, false, false, true, true, false, false]);
}

#[test]
fn others_are_overwritten_only_where_told_and_last() {
    let all = |free: bool| {
        Inventory(vec![
            held(0x82, key(1), ours(Mark::Key, 1, &public(1))),
            held(0x83, key(2), foreign()),
            held(0x84, None, foreign()),
            held(0x85, (!free).then(|| key(3)).flatten(), Object::Nothing),
        ])
    };
    let slots = |numbers: &[u8]| numbers.iter().map(|n| Slot::new(*n).unwrap()).collect::<Vec<_>>();
    let place = |inventory: &Inventory, overwrite: &[u8], used: &[u8]| {
        let used = slots(used).into_iter().collect();
        inventory.place(&slots(overwrite), &used).map(|held| held.slot.number())
    };
    assert_eq!(place(&all(true), &[0x83], &[]).unwrap(), 0x85);
    let refused = place(&all(false), &[], &[]).unwrap_err();
    assert_eq!(refused.class, FaultClass::Request);
    for part in ["1 of 4", "slot 83", "CN=SSH", "slot 85", "hint: "] {
        assert!(refused.code.contains(part), "{part}: {}", refused.code);
    }
    assert_eq!(place(&all(false), &[0x84, 0x83], &[]).unwrap(), 0x83);
    assert_eq!(place(&all(false), &[0x83, 0x85], &[0x83]).unwrap(), 0x85);
    // Hallmark's own is never overwritten, told or not.
    assert!(place(&all(false), &[0x82], &[]).is_err());
}

#[test]
fn a_key_is_its_public_key_and_is_there_once() {
    let id = [1; 16];
    let one = || held(0x82, key(1), ours(Mark::Key, 1, &public(1)));
    assert_eq!(Inventory(vec![one()]).find(&wanted(&id, &public(1))).map(|held| held.slot.number()).unwrap(), 0x82);
    let class = |inventory: Vec<Held>, n| match Inventory(inventory).find(&wanted(&id, &public(n))) {
        Ok(_) => panic!("found"),
        Err(fault) => fault,
    };
    assert!(class(vec![one()], 2).code.contains("another"));
    assert!(class(vec![], 1).code.contains("no slot"));
    let twice = class(vec![one(), held(0x83, key(1), ours(Mark::Key, 1, &public(1)))], 1);
    assert!(twice.code.contains("82, 83"), "{twice}");
    assert_eq!(twice.class, FaultClass::KeyAbsent);
}

#[test]
fn a_destruction_that_broke_off_is_recognised() {
    let (id, record) = ([1; 16], public(1));
    let left =
        |key| Inventory(vec![held(0x82, key, ours(Mark::Key, 1, &public(1)))]).half_destroyed(&wanted(&id, &record));
    assert!(left(None).is_some() && left(key(2)).is_some());
    assert_eq!(left(key(1)), None);
}

#[test]
fn a_key_that_waits_for_a_person_is_refused_with_the_reason() {
    let with = |policy| {
        let key = Key { public: Some(public(1)), policy: Some(policy), generated: true };
        held(0x9c, Some(key), Object::Nothing).check_policy()
    };
    for policy in [(PinPolicy::Once, TouchPolicy::Never), (PinPolicy::Never, TouchPolicy::Never)] {
        assert_eq!(with(policy), Ok(()));
    }
    for (policy, part) in [
        ((PinPolicy::Always, TouchPolicy::Never), "PIN"),
        ((PinPolicy::Once, TouchPolicy::Always), "touch"),
        ((PinPolicy::Once, TouchPolicy::Cached), "touch"),
    ] {
        let fault = with(policy).unwrap_err();
        assert!(
            fault.class == FaultClass::Request && fault.code.contains(part) && fault.code.contains("9c"),
            "{fault}"
        );
    }
}

#[test]
fn an_imported_key_is_not_local() {
    let imported = Key { generated: false, ..key(1).unwrap() };
    let held = held(0x82, Some(imported), ours(Mark::Key, 1, &public(1)));
    let (id, public) = ([1; 16], public(1));
    assert_eq!(held.evidence().custody(), Ok(Custody::Imported));
    assert_eq!(held.check_custody(&wanted(&id, &public)).unwrap_err().class, FaultClass::CustodyTooWeak);
    assert_eq!(held.check_custody(&KeyRef { custody: Custody::Imported, ..wanted(&id, &public) }), Ok(()));
}
