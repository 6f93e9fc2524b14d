//! An issuer's keys change while calls go on.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::*;

/// Shorter than the real one.
const FLOOR: Duration = Duration::from_millis(400);
/// Far less.
const AT_ONCE: Duration = Duration::from_millis(200);

fn keys(served: &Arc<Served>) -> Arc<Keys> {
    let source = KeySource::Url { url: "https://issuer.example/jwks".into(), ca: None };
    let mut keys = Keys::new(source, served.clone());
    keys.floor = FLOOR;
    let keys = Arc::new(keys);
    let followed = keys.clone();
    tokio::spawn(async move { followed.follow(&CancellationToken::new()).await });
    keys
}

async fn verified(keys: &Keys, key: &Key) -> Result<(), Reason> {
    let kid = Some(key.1).filter(|kid| !kid.is_empty());
    let header = kid.map_or_else(|| json!({ "alg": "ES256" }), |kid| json!({ "alg": "ES256", "kid": kid }));
    let verified = keys.verify(&key.sign(&header, &claims()), Alg::ES256, kid).await;
    verified.map_err(|error| error.reason)
}

#[tokio::test]
async fn a_key_that_is_published_counts_however_new_it_is() {
    let [one, two, three] = ["k1", "k2", "k3"].map(Key::new);
    let served = Served::of(&[&one]);
    let keys = keys(&served);
    assert_eq!(verified(&keys, &one).await, Ok(()));
    assert_eq!(served.readings(), 1);

    served.publish(&[&two, &one]);
    let began = Instant::now();
    assert_eq!(verified(&keys, &two).await, Ok(()));
    assert!(began.elapsed() < AT_ONCE, "nobody wanted a reading lately: {:?}", began.elapsed());
    assert_eq!(verified(&keys, &one).await, Ok(()), "it is still published");
    assert_eq!(served.readings(), 2);

    // Within the floor: all who come wait for one reading, and none is refused.
    served.publish(&[&three, &two]);
    let crowd = join_all((0..50).map(|_| verified(&keys, &three))).await;
    assert!(crowd.iter().all(Result::is_ok), "{crowd:?}");
    assert!(began.elapsed() >= FLOOR, "{:?}", began.elapsed());
    assert!(served.readings() <= 4, "{} readings", served.readings());
    assert_eq!(verified(&keys, &one).await, Err(Reason::TokenInvalid), "it is not published any more");
}

#[tokio::test]
async fn who_invents_keys_does_not_flood_the_issuer_and_is_no_bother_to_others() {
    let (good, invented) = (Key::new("k1"), Key::new("k2"));
    let served = Served::of(&[&good]);
    let keys = keys(&served);
    assert_eq!(verified(&keys, &good).await, Ok(()));
    let began = Instant::now();
    let attack = async {
        while began.elapsed() < 3 * FLOOR {
            let crowd = join_all((0..20).map(|_| verified(&keys, &invented))).await;
            assert!(crowd.iter().all(|one| *one == Err(Reason::TokenInvalid)), "{crowd:?}");
        }
    };
    let others = async {
        while began.elapsed() < 3 * FLOOR {
            let asked = Instant::now();
            assert_eq!(verified(&keys, &good).await, Ok(()));
            assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(attack, others);
    let most = 2 + began.elapsed().as_millis().div_ceil(FLOOR.as_millis()) as usize;
    assert!(served.readings() <= most, "{} readings, at most {most}", served.readings());
}

#[tokio::test]
async fn more_than_may_wait_are_told_to_try_again() {
    let (good, new) = (Key::new("k1"), Key::new("k2"));
    let served = Served::of(&[&good]);
    let keys = keys(&served);
    assert_eq!(verified(&keys, &new).await, Err(Reason::TokenInvalid), "that took the reading of this floor");
    served.publish(&[&good, &new]);
    let crowd = join_all((0..300).map(|_| verified(&keys, &new))).await;
    let told = crowd.iter().filter(|one| **one == Err(Reason::IssuerUnavailable)).count();
    assert_eq!((crowd.iter().filter(|one| one.is_ok()).count(), told), (256, 44));
}

#[tokio::test]
async fn while_the_issuer_is_down_its_last_keys_count_and_others_may_be_its_own() {
    let (known, new) = (Key::new("k1"), Key::new("k2"));
    let served = Served::of(&[&known]);
    let keys = keys(&served);
    assert_eq!(verified(&keys, &known).await, Ok(()));
    served.go_down();
    assert_eq!(verified(&keys, &new).await, Err(Reason::IssuerUnavailable), "it may be published");
    assert_eq!(verified(&keys, &known).await, Ok(()));
    served.publish(&[&known, &new]);
    assert_eq!(verified(&keys, &new).await, Ok(()));
}

#[tokio::test]
async fn an_issuer_that_was_never_seen_holds_up_nobody() {
    let key = Key::new("k1");
    let served = Arc::new(Served::default());
    let keys = keys(&served);
    assert_eq!(verified(&keys, &key).await, Err(Reason::IssuerUnavailable));
    let began = Instant::now();
    assert_eq!(verified(&keys, &key).await, Err(Reason::IssuerUnavailable));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_token_that_names_no_key_may_be_of_any() {
    let [one, two, stranger] = ["", "", ""].map(Key::new);
    let served = Served::of(&[&one]);
    let keys = keys(&served);
    assert_eq!(verified(&keys, &one).await, Ok(()));
    served.publish(&[&two, &one]);
    for key in [&two, &one] {
        assert_eq!(verified(&keys, key).await, Ok(()));
    }
    assert_eq!(verified(&keys, &stranger).await, Err(Reason::TokenInvalid));
}

#[tokio::test]
async fn keys_of_other_kinds_do_not_stand_before_the_one_of_a_token_that_names_none() {
    let key = Key::new("");
    let served = Served::of(&[]);
    let rsa = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" });
    let mut own = key.jwk();
    own.as_object_mut().unwrap().retain(|name, _| !["alg", "use", "kid"].contains(&name.as_str()));
    *served.set.lock().unwrap() = Some(json!({ "keys": [rsa, rsa, rsa, rsa, rsa, own] }));
    assert_eq!(verified(&keys(&served), &key).await, Ok(()));
}

fn of_file(path: &Path) -> Arc<Keys> {
    let keys = Arc::new(Keys::new(KeySource::File(path.to_owned()), Arc::new(Served::default())));
    let followed = keys.clone();
    tokio::spawn(async move { followed.follow(&CancellationToken::new()).await });
    keys
}

/// The runtime of this test has one thread, as that of a server on a small machine: signing stands still with it.
#[tokio::test]
async fn what_is_in_the_place_of_a_key_file_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::new("k1");
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    for path in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
        let asked = tokio::time::timeout(Duration::from_secs(20), verified(&of_file(path), &key)).await.unwrap();
        assert_eq!(asked, Err(Reason::IssuerUnavailable), "{}", path.display());
    }
    let file = folder.path().join("keys");
    std::fs::write(&file, json!({ "keys": [key.jwk()] }).to_string()).unwrap();
    assert_eq!(verified(&of_file(&file), &key).await, Ok(()));
}

/// Callers who go away take no reading along, and leave none undone.
#[tokio::test]
async fn a_caller_that_goes_away_keeps_no_key_from_others() {
    let (one, two) = (Key::new("k1"), Key::new("k2"));
    let served = Served::of(&[&one]);
    let keys = keys(&served);
    assert_eq!(verified(&keys, &one).await, Ok(()));
    served.publish(&[&two]);
    for _ in 0..5 {
        let gone = tokio::time::timeout(Duration::ZERO, verified(&keys, &two)).await;
        drop(gone);
    }
    assert_eq!(verified(&keys, &two).await, Ok(()));
}
