//! Commands, without a reader.

#![allow(clippy::unwrap_used, reason = "a test may end so")]

use std::{path::Path, time::Duration};

use tempfile::TempDir;

use super::Card;
use crate::{
    cipher::encrypt,
    keys::with_keys,
    model::{AES_192, Firmware, Model, P_256, P_384, RSA_2048, RSA_3072, TRIPLE_DES, Touch},
    state::{FACTORY_MANAGEMENT_KEY, FACTORY_PIN, FACTORY_PUK},
    status::{Answer, Status},
    tlv::{find, tlv},
};

const V5_4: Firmware = Firmware([5, 4, 3]);
const V5_7: Firmware = Firmware([5, 7, 2]);
const WRONG: &[u8; 8] = b"999999\xff\xff";
const OK: Answer = Ok(Vec::new());

#[test]
fn a_wrong_pin_costs_a_try_also_across_a_loss_of_power() {
    let folder = TempDir::new().unwrap();
    for left in [2, 1] {
        with(&folder, V5_4, |card| assert_eq!(verify(card, WRONG), Err(Status(0x63c0 | left))));
    }
    with(&folder, V5_4, |card| {
        assert_eq!(verify(card, WRONG), Err(Status::BLOCKED));
        assert_eq!(verify(card, FACTORY_PIN), Err(Status::BLOCKED), "the right one, too late");
        assert_eq!(send(card, [0, 0x20, 0, 0x80], &[]), Err(Status::BLOCKED));
        let unblock = [&FACTORY_PUK[..], b"654321\xff\xff"].concat();
        assert_eq!(send(card, [0, 0x2c, 0, 0x80], &unblock), OK);
        assert_eq!(verify(card, b"654321\xff\xff"), OK);
        assert_eq!(send(card, [0, 0x20, 0, 0x80], &[]), OK, "no PIN is needed");
    });
}

#[test]
fn factory_settings_come_back_only_when_pin_and_puk_are_blocked() {
    let folder = TempDir::new().unwrap();
    with(&folder, V5_7, |card| {
        manage(card, AES_192);
        generate(card, 0x9a, P_256, &[]).unwrap();
        assert_eq!(send(card, [0, 0xfb, 0, 0], &[]), Err(Status::CONDITIONS));
        (0..3).for_each(|_| drop(verify(card, WRONG)));
        (0..3).for_each(|_| drop(send(card, [0, 0x2c, 0, 0x80], &[*WRONG, *WRONG].concat())));
        assert_eq!(send(card, [0, 0xfb, 0, 0], &[]), OK);
        assert_eq!(send(card, [0, 0xf7, 0, 0x9a], &[]), Err(Status::NO_REFERENCE));
        assert_eq!(verify(card, FACTORY_PIN), OK);
    });
}

#[test]
fn the_management_key_has_the_algorithm_of_the_firmware_and_guards_changes() {
    for (firmware, alg, other) in [(V5_4, TRIPLE_DES, AES_192), (V5_7, AES_192, TRIPLE_DES)] {
        let folder = TempDir::new().unwrap();
        with(&folder, firmware, |card| {
            assert_eq!(generate(card, 0x9a, P_256, &[]), Err(Status::NOT_ALLOWED));
            assert_eq!(send(card, [0, 0xdb, 0x3f, 0xff], &put(0x05, &[1])), Err(Status::NOT_ALLOWED));
            assert_eq!(send(card, [0, 0x87, other, 0x9b], &[0x7c, 2, 0x80, 0]), Err(Status::WRONG_PARAMETER));
            send(card, [0, 0x87, alg, 0x9b], &[0x7c, 2, 0x81, 0]).unwrap();
            let wrong = tlv(0x7c, &[&tlv(0x82, &[&[0; 16]])]);
            assert_eq!(send(card, [0, 0x87, alg, 0x9b], &wrong), Err(Status::NOT_ALLOWED));
            manage(card, alg);
            assert_eq!(send(card, [0, 0xdb, 0x3f, 0xff], &put(0x05, &[1])), OK);
            assert_eq!(send(card, [0, 0xcb, 0x3f, 0xff], &put(0x05, &[])[..5]), Ok(vec![0x53, 1, 1]));
        });
    }
}

#[test]
fn pin_policies_hold() {
    let folder = TempDir::new().unwrap();
    with(&folder, V5_4, |card| {
        manage(card, TRIPLE_DES);
        generate(card, 0x9a, P_256, &[]).unwrap();
        generate(card, 0x9c, P_256, &[]).unwrap();
        generate(card, 0x9d, P_256, &[0xaa, 1, 1]).unwrap();
        assert_eq!(sign(card, 0x9a, P_256), Err(Status::NOT_ALLOWED));
        sign(card, 0x9d, P_256).unwrap();
        verify(card, FACTORY_PIN).unwrap();
        sign(card, 0x9c, P_256).unwrap();
        assert_eq!(sign(card, 0x9c, P_256), Err(Status::NOT_ALLOWED), "always means for each");
        sign(card, 0x9a, P_256).unwrap();
        sign(card, 0x9a, P_256).unwrap();
        card.drop_pin_session();
        assert_eq!(sign(card, 0x9a, P_256), Err(Status::NOT_ALLOWED));
        verify(card, FACTORY_PIN).unwrap();
        select(card);
        assert_eq!(sign(card, 0x9a, P_256), Err(Status::NOT_ALLOWED), "a SELECT forgets the PIN");
    });
}

#[test]
fn a_touch_is_waited_for_and_may_not_come() {
    for (touch, comes) in [(Touch::Never, false), (Touch::After(Duration::ZERO), true)] {
        let folder = TempDir::new().unwrap();
        let model = Model { firmware: V5_4, serial: 1, touch };
        with_model(folder.path(), model, |card| {
            manage(card, TRIPLE_DES);
            generate(card, 0x9a, P_256, &[0xab, 1, 2]).unwrap();
            verify(card, FACTORY_PIN).unwrap();
            assert_eq!(sign(card, 0x9a, P_256).is_ok(), comes);
        });
    }
}

#[test]
fn keys_and_their_metadata_survive_and_move_and_end() {
    let folder = TempDir::new().unwrap();
    let public = with(&folder, V5_7, |card| {
        manage(card, AES_192);
        generate(card, 0x82, P_384, &[0xaa, 1, 2]).unwrap()
    });
    with(&folder, V5_7, |card| {
        let metadata = send(card, [0, 0xf7, 0, 0x82], &[]).unwrap();
        assert_eq!(find(&metadata, 1), Some(&[P_384][..]));
        assert_eq!(find(&metadata, 2), Some(&[2, 1][..]));
        assert_eq!(find(&metadata, 4), find(&public[1..], 0x49));
        assert_eq!(send(card, [0, 0xf6, 0x95, 0x82], &[]), Err(Status::NOT_ALLOWED));
        manage(card, AES_192);
        generate(card, 0x83, P_256, &[]).unwrap();
        assert_eq!(send(card, [0, 0xf6, 0x83, 0x82], &[]), Err(Status::CONDITIONS), "taken");
        assert_eq!(send(card, [0, 0xf6, 0x95, 0x82], &[]), OK);
        verify(card, FACTORY_PIN).unwrap();
        sign(card, 0x95, P_384).unwrap();
        assert_eq!(sign(card, 0x82, P_384), Err(Status::WRONG_DATA));
        assert_eq!(send(card, [0, 0xf6, 0xff, 0x95], &[]), OK);
        assert_eq!(send(card, [0, 0xf7, 0, 0x95], &[]), Err(Status::NO_REFERENCE));
        assert_eq!(send(card, [0, 0xf6, 0xff, 0x95], &[]), Err(Status::NO_REFERENCE));
    });
}

#[test]
fn old_firmware_knows_less() {
    let folder = TempDir::new().unwrap();
    with(&folder, V5_4, |card| {
        manage(card, TRIPLE_DES);
        assert_eq!(generate(card, 0x9a, RSA_3072, &[]), Err(Status::WRONG_DATA));
        generate(card, 0x9a, P_256, &[]).unwrap();
        assert_eq!(send(card, [0, 0xf6, 0xff, 0x9a], &[]), Err(Status::NO_INSTRUCTION));
    });
}

/// With the largest keys that are made quickly; the memory has room for RSA-4096 in all.
#[test]
fn every_slot_holds_a_key_at_once() {
    let folder = TempDir::new().unwrap();
    with(&folder, V5_4, |card| {
        manage(card, TRIPLE_DES);
        let slots: Vec<u8> = (0x82..=0x95).chain([0x9a, 0x9c, 0x9d, 0x9e]).collect();
        slots.iter().for_each(|slot| drop(generate(card, *slot, P_384, &[0xaa, 1, 1]).unwrap()));
        slots.iter().for_each(|slot| drop(sign(card, *slot, P_384).unwrap()));
    });
}

#[test]
fn an_imported_key_signs_and_is_known_as_imported() {
    let folder = TempDir::new().unwrap();
    with(&folder, V5_4, |card| {
        manage(card, TRIPLE_DES);
        let parts = [tlv(1, &[&hex(P)]), tlv(2, &[&hex(Q)]), tlv(0xaa, &[&[1]])].concat();
        assert_eq!(send(card, [0, 0xfe, RSA_2048, 0x84], &parts), OK);
        let metadata = send(card, [0, 0xf7, 0, 0x84], &[]).unwrap();
        assert_eq!(find(&metadata, 3), Some(&[2][..]));
        let public = find(&metadata, 4).unwrap();
        assert_eq!(find(public, 0x81).unwrap()[..8], hex("af7a4f930c590190"), "p · q");
        let template = tlv(0x7c, &[&[0x82, 0], &tlv(0x81, &[&[1; 256]])]);
        send(card, [0, 0x87, RSA_2048, 0x84], &template).unwrap();
        assert_eq!(send(card, [0, 0xf9, 0x84, 0], &[]), Err(Status::WRONG_DATA), "nobody knows where it was born");
        assert_eq!(send(card, [0, 0xfe, RSA_2048, 0x85], &parts), Err(Status::NO_SPACE));
    });
}

/// Evidence tests trust the file that is in the repository.
#[test]
fn the_exported_root_is_the_one_that_signs() {
    assert_eq!(crate::attestation::root_pem().unwrap(), include_str!("../../attestation-root.pem"));
}

fn with<T>(folder: &TempDir, firmware: Firmware, work: impl FnOnce(&mut Card<'_>) -> T) -> T {
    with_model(folder.path(), Model { firmware, serial: 1, touch: Touch::Never }, work)
}

/// A card that gets power, and loses it after `work`.
fn with_model<T>(folder: &Path, model: Model, work: impl FnOnce(&mut Card<'_>) -> T) -> T {
    let done = with_keys(folder, |keys| {
        let mut card = Card::new(model, keys, folder).unwrap();
        select(&mut card);
        work(&mut card)
    });
    done.unwrap()
}

fn select(card: &mut Card<'_>) {
    send(card, [0, 0xa4, 4, 0], &[0xa0, 0, 0, 3, 8]).unwrap();
}

fn verify(card: &mut Card<'_>, pin: &[u8; 8]) -> Answer {
    send(card, [0, 0x20, 0, 0x80], pin)
}

/// Authenticates with the management key of the factory.
fn manage(card: &mut Card<'_>, alg: u8) {
    let asked = send(card, [0, 0x87, alg, 0x9b], &[0x7c, 2, 0x81, 0]).unwrap();
    let challenge = find(find(&asked, 0x7c).unwrap(), 0x81).unwrap();
    let response = encrypt(alg, &FACTORY_MANAGEMENT_KEY, challenge).unwrap();
    let proof = tlv(0x7c, &[&tlv(0x82, &[&response])]);
    assert_eq!(send(card, [0, 0x87, alg, 0x9b], &proof), OK);
}

fn generate(card: &mut Card<'_>, slot: u8, alg: u8, policies: &[u8]) -> Answer {
    send(card, [0, 0x47, 0, slot], &tlv(0xac, &[&[0x80, 1, alg], policies]))
}

fn sign(card: &mut Card<'_>, slot: u8, alg: u8) -> Answer {
    let hash = if alg == P_384 { 48 } else { 32 };
    let template = tlv(0x7c, &[&[0x82, 0], &tlv(0x81, &[&vec![7; hash]])]);
    send(card, [0, 0x87, alg, slot], &template)
}

/// The object `5fc1` and this byte.
fn put(object: u8, value: &[u8]) -> Vec<u8> {
    [&[0x5c, 3, 0x5f, 0xc1, object], &tlv(0x53, &[value])[..]].concat()
}

fn send(card: &mut Card<'_>, head: [u8; 4], data: &[u8]) -> Answer {
    card.command(head, data)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

// The primes of a key that was made for this test.
const P: &str = "d7e71749ac1fa2a56458b0d5ae277881e971ea37d04d6f4ded33f25dbefa47dfce284c11ab08ff00dc81e753368ac7d9b79275c8a0327f8e \
    73bc20f1c0037c1e9e306e24ce87639fdde977324d4eeea51fecd24365c3051d5f6ba79b1d0cf8d2c8d84162210700c7ba9c4c987206b803 \
    8952de8b39d8d5438bc064ae4f5abe6b";
const Q: &str = "d0114064a1ddc1b424ee90fe8ff0dc95cbceab5567a6a0ee4877f5abd0d4414e7a497149d5f2eea331a63e700c1110bd475e2e09be62a74d \
    406514007454f6d955f0dcf337900ec8c440d5b5a75740d31bb372ba72306400126aa3bd4c4edf6c6c5ece58df52f84a7629e05526945fff \
    5a03c8b22598952c2ef49e8123be6e7b";
