use hallmark_core::{
    key::{Alg, KeyId, KeyLine, KeySpec, KeyState, KeyTimes, PublicPart},
    profile::Profile,
    public_key::PublicKey,
};
use uuid::Uuid;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn client(name: &str, algs: &[Alg], jwks_path: Option<&str>) -> Client {
    Client {
        hsms: vec!["h".parse().unwrap()],
        keys: algs.iter().map(|&alg| KeySpec { alg, rsa_bits: 2048 }).collect(),
        jwks_path: jwks_path.map(str::to_owned),
        ..Client::new(name.parse().unwrap(), Profile::find(Profile::DEFAULT).unwrap(), "https://as.example/token")
    }
}

fn record(client: &str, n: u8, alg: Alg, state: KeyState) -> KeyRecord {
    let key = if alg.is_rsa() {
        PublicKey::from_rsa(&[0x80 | n; 256], &[1, 0, 1]).unwrap()
    } else {
        PublicKey::from_ed25519(&[n; 32]).unwrap()
    };
    let line = KeyLine { client: client.parse().unwrap(), alg, hsm: "h".parse().unwrap() };
    let created = Timestamp::from_secs(n.into());
    let blank = KeyRecord::of_line(KeyId(Uuid::from_u128(n.into())), &line, created);
    KeyRecord {
        cka_id: vec![n],
        label: "label".into(),
        public: Some(PublicPart { kid: format!("k{n}").parse().unwrap(), key }),
        state,
        times: KeyTimes { published: Some(NOW), ..blank.times },
        ..blank
    }
}

/// A published, active key.
pub(crate) fn sample_record(client: &str, n: u8) -> KeyRecord {
    record(client, n, Alg::EdDSA, KeyState::Active)
}

fn published(clients: &[Client], records: &[KeyRecord]) -> Publisher {
    let publisher = Publisher::new("https://keys.example", Duration::from_secs(300));
    publisher.rebuild(clients, records);
    publisher
}

fn document(publisher: &Publisher, path: &str) -> Document {
    match publisher.lookup(path, NOW) {
        Answer::Document(document) => document,
        other => panic!("{path}: {other:?}"),
    }
}

fn kids(publisher: &Publisher, path: &str) -> Vec<String> {
    let set: serde_json::Value = serde_json::from_slice(&document(publisher, path).published.body).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_client_has_its_own_set() {
    let clients = [client("a", &[Alg::RS384], None), client("b", &[Alg::RS384], Some("/k/7f3a.json"))];
    let records = [
        record("a", 1, Alg::RS384, KeyState::Active),
        record("a", 2, Alg::RS384, KeyState::PreActive),
        record("b", 3, Alg::RS384, KeyState::Active),
        KeyRecord { client: None, purpose: Purpose::Custody, ..record("a", 4, Alg::EdDSA, KeyState::Active) },
    ];
    let publisher = published(&clients, &records);
    assert_eq!(kids(&publisher, "/clients/a/jwks.json"), ["k1", "k2"]);
    assert_eq!(kids(&publisher, "/k/7f3a.json"), ["k3"]);
    assert_eq!(publisher.url(&clients[1]), "https://keys.example/k/7f3a.json");
    assert_eq!(publisher.document(&clients[1]).as_deref(), Some(&document(&publisher, "/k/7f3a.json").published));
    assert!(matches!(publisher.lookup("/clients/b/jwks.json", NOW), Answer::NotFound));
    assert_eq!(document(&publisher, "/k/7f3a/public_key.pem").kind, Kind::Pem);
}

#[test]
fn before_the_first_key_there_is_nothing_yet() {
    let mut unpublished = record("a", 1, Alg::RS384, KeyState::PreActive);
    unpublished.times.published = None;
    let publisher = published(&[client("a", &[Alg::RS384], None)], &[unpublished]);
    for path in ["/clients/a/jwks.json", "/clients/a/public_key.pem"] {
        assert!(matches!(publisher.lookup(path, NOW), Answer::NoKeyYet), "{path}");
    }
}

#[test]
fn a_revoked_last_key_leaves_an_empty_set() {
    let records = [record("a", 1, Alg::RS384, KeyState::Compromised)];
    let publisher = published(&[client("a", &[Alg::RS384], None)], &records);
    assert_eq!(document(&publisher, "/clients/a/jwks.json").published.body, r#"{"keys":[]}"#);
    assert!(matches!(publisher.lookup("/clients/a/public_key.pem", NOW), Answer::NoKeyYet));
}

#[test]
fn a_client_out_of_the_configuration_stays_published() {
    let publisher = published(&[], &[record("gone", 1, Alg::RS384, KeyState::Active)]);
    assert_eq!(kids(&publisher, "/clients/gone/jwks.json"), ["k1"]);
}

#[test]
fn the_pem_is_the_active_key_of_the_preferred_algorithm() {
    let records = [
        record("a", 1, Alg::RS384, KeyState::Active),
        record("a", 2, Alg::EdDSA, KeyState::Deactivated),
        record("a", 3, Alg::EdDSA, KeyState::Active),
    ];
    let publisher = published(&[client("a", &[Alg::EdDSA, Alg::RS384], None)], &records);
    let pem = document(&publisher, "/clients/a/public_key.pem");
    let (label, der) = x509_cert::der::pem::decode_vec(&pem.published.body).unwrap();
    assert_eq!((label, &der[..]), ("PUBLIC KEY", records[2].public.as_ref().unwrap().key.spki()));
}

#[test]
fn the_tag_changes_with_the_content_alone() {
    let clients = [client("a", &[Alg::RS384], None)];
    let path = "/clients/a/jwks.json";
    let one = document(&published(&clients, &[record("a", 1, Alg::RS384, KeyState::Active)]), path);
    let same = document(&published(&clients, &[record("a", 1, Alg::RS384, KeyState::Active)]), path);
    let other = document(&published(&clients, &[record("a", 2, Alg::RS384, KeyState::Active)]), path);
    assert_eq!(one.published.etag, same.published.etag);
    assert_ne!(one.published.etag, other.published.etag);
}

/// Their verifiers take the first RSA key: a copy would show the one of before.
#[test]
fn what_only_its_signer_may_serve_is_kept_by_nobody() {
    let mut clients = [client("a", &[Alg::RS384], None), client("b", &[Alg::RS384], None)];
    let records = [record("a", 1, Alg::RS384, KeyState::Active), record("b", 2, Alg::RS384, KeyState::Active)];
    let publisher = published(&clients, &records);
    assert!(publisher.current().only_here().is_empty());
    let before = publisher.generation();
    clients[0].profile = Profile::find("openemr-7").unwrap();
    publisher.rebuild(&clients, &records);
    assert_eq!(publisher.generation(), before + 1, "who follows must hear of it");
    assert_eq!(Vec::from_iter(publisher.current().only_here()), [&clients[0].name]);
    for (path, no_store) in
        [("/clients/a/jwks.json", true), ("/clients/a/public_key.pem", true), ("/clients/b/jwks.json", false)]
    {
        assert_eq!(document(&publisher, path).no_store, no_store, "{path}");
    }
}

#[test]
fn the_age_counts_down_to_the_next_change() {
    let publisher = Publisher::new("https://keys.example", Duration::from_secs(300));
    let clients = [client("a", &[Alg::RS384], None)];
    let records = [record("a", 1, Alg::RS384, KeyState::Active)];
    let change = NOW.plus(Duration::from_millis(90_900));
    publisher.rebuild_until(&clients, &records, &NextChanges::from([(clients[0].name.clone(), change)]));
    let max_age = |now| match publisher.lookup("/clients/a/jwks.json", now) {
        Answer::Document(document) => document.max_age.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(max_age(NOW.minus(Duration::from_secs(1000))), 300);
    assert_eq!(max_age(NOW), 90, "rounded down: a second too long would outlive the change");
    assert_eq!(max_age(change), 0);
    assert_eq!(max_age(change.plus(Duration::from_secs(5))), 0);
}

#[test]
fn a_generation_is_a_change() {
    let publisher = Publisher::new("https://keys.example", Duration::from_secs(300));
    let clients = [client("a", &[Alg::RS384], None), client("b", &[Alg::RS384], None)];
    let mut records = vec![record("a", 1, Alg::RS384, KeyState::Active), record("b", 2, Alg::RS384, KeyState::Active)];
    assert_eq!(publisher.generation(), 0);
    let first = publisher.rebuild(&clients, &records);
    assert_eq!((first, publisher.rebuild(&clients, &records)), (1, 1), "nothing changed");
    let before = publisher.current();
    assert_eq!(before.changes_since(None).documents.len(), 4);

    records.push(record("b", 3, Alg::RS384, KeyState::PreActive));
    assert_eq!(publisher.rebuild(&clients, &records), 2);
    let after = publisher.current();
    let paths: Vec<_> = after.changes_since(Some(&before)).documents.iter().map(|(path, ..)| *path).collect();
    assert_eq!(paths, ["/clients/b/jwks.json"], "the active key, and so the PEM, is the same");

    // A change that is only foreseen is one too: who serves the set must count down to it.
    let next = NextChanges::from([(clients[0].name.clone(), NOW)]);
    assert_eq!(publisher.rebuild_until(&clients, &records, &next), 3);
    let foreseen = publisher.current();
    assert_eq!(foreseen.changes_since(Some(&after)).documents.len(), 2);

    records.retain(|record| record.client != Some(clients[1].name.clone()));
    publisher.rebuild_until(&clients, &records, &next);
    let now = publisher.current();
    let mut gone = now.changes_since(Some(&foreseen)).withdrawn;
    gone.sort_unstable();
    assert_eq!(gone, ["/clients/b/jwks.json", "/clients/b/public_key.pem"]);
}

#[test]
fn a_client_taken_out_stays_at_its_own_path() {
    let publisher = Publisher::new("https://keys.example", Duration::from_secs(300));
    let records = [record("a", 1, Alg::RS384, KeyState::Active), record("b", 2, Alg::RS384, KeyState::Active)];
    publisher.rebuild(&[client("a", &[Alg::RS384], Some("/k/7f3a.json"))], &records);
    // What an earlier process knew counts where this one does not know better.
    let told = [("a", "/old.json"), ("b", "/k/b.json")];
    let told = told.map(|(name, path)| PublishedPath { client: name.parse().unwrap(), path: Some(path.to_owned()) });
    publisher.remember_paths(&told);
    publisher.rebuild(&[], &records);
    assert_eq!(kids(&publisher, "/k/7f3a.json"), ["k1"]);
    assert_eq!(kids(&publisher, "/k/b.json"), ["k2"]);
    assert!(matches!(publisher.lookup("/clients/a/jwks.json", NOW), Answer::NotFound));
}

/// Without a word from its source a set must not be promised to anyone for long, nor past the change that was foreseen.
#[test]
fn who_is_cut_off_promises_little() {
    let secs = Duration::from_secs;
    let at = |seconds| Some(NOW.plus(secs(seconds)));
    let never = Timestamp::from_millis(i64::MAX);
    let age = |longest, next: Option<_>, cut_off| max_age(secs(longest), next.unwrap_or(never), NOW, cut_off).as_secs();
    assert_eq!((age(300, None, false), age(300, None, true), age(20, None, true)), (300, 60, 20));
    assert_eq!((age(300, at(200), false), age(300, at(200), true)), (200, 60));
    assert_eq!((age(300, at(59), true), age(300, at(1), true)), (59, 1));
    assert_eq!((age(300, at(0), false), age(300, at(0), true)), (0, 60));
}

#[test]
fn changes_are_foreseen_by_the_clock_of_their_source() {
    let publisher = Publisher::new("https://keys.example", Duration::from_secs(300));
    let clients = [client("a", &[Alg::RS384], None)];
    let next = NextChanges::from([(clients[0].name.clone(), NOW.plus(Duration::from_secs(100)))]);
    publisher.rebuild_until(&clients, &[record("a", 1, Alg::RS384, KeyState::Active)], &next);
    publisher.set_ahead(-30_000);
    assert_eq!(document(&publisher, "/clients/a/jwks.json").max_age.as_secs(), 130);
}

#[test]
fn only_what_changed_is_made_again() {
    let clients = [client("a", &[Alg::RS384], None), client("b", &[Alg::RS384], None)];
    let publisher = published(
        &clients,
        &[record("a", 1, Alg::RS384, KeyState::Active), record("b", 2, Alg::RS384, KeyState::Active)],
    );
    let other = [record("a", 3, Alg::RS384, KeyState::Active), record("b", 4, Alg::RS384, KeyState::Active)];
    let next = NextChanges::from([(clients[1].name.clone(), NOW.plus(Duration::from_secs(100)))]);
    publisher.rebuild_where(|name| name.as_str() == "a", &clients, &other, &next);
    assert_eq!(kids(&publisher, "/clients/a/jwks.json"), ["k3"]);
    assert_eq!(kids(&publisher, "/clients/b/jwks.json"), ["k2"], "taken over as it was");
    assert_eq!(document(&publisher, "/clients/b/jwks.json").max_age.as_secs(), 100, "but for its countdown");
    assert_eq!((publisher.current().documents().count(), publisher.generation()), (4, 2));
}

#[test]
fn what_is_at_another_path_is_made_there() {
    let records = [record("a", 1, Alg::RS384, KeyState::Active)];
    let publisher = published(&[client("a", &[Alg::RS384], None)], &records);
    publisher.rebuild_where(|_| false, &[client("a", &[Alg::RS384], Some("/k/a.json"))], &records, &NextChanges::new());
    assert_eq!(kids(&publisher, "/k/a.json"), ["k1"]);
    assert!(matches!(publisher.lookup("/clients/a/jwks.json", NOW), Answer::NotFound));
}
