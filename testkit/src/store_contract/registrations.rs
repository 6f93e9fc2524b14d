//! What registering clients gave.

use hallmark_core::{
    ports::{KeyStore, RegistrationResult, StoreError},
    time::Timestamp,
};

pub(super) async fn the_last_registration_holds(store: &impl KeyStore) {
    let generation = async || store.pulse().await.unwrap().generation;
    let kept = async || store.records().await.unwrap().registrations;
    let first = generation().await;
    assert_eq!(kept().await, []);
    let [b, a] = [of("b", "id of b"), of("a", &"é\"'".repeat(2000))];
    let a = RegistrationResult { registration_uri: None, ..a };
    store.record_registration(&b, None).await.unwrap();
    assert_eq!(generation().await, first + 1, "others must see it");
    store.record_registration(&a, None).await.unwrap();
    assert_eq!(kept().await, [a.clone(), b.clone()], "registrations come by client, byte for byte");
    let again = RegistrationResult { recorded: Timestamp::from_millis(8), ..of("a", "id of a") };
    for other in [None, Some("id of b")] {
        let refused = store.record_registration(&again, other).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "nobody replaces what he did not see: {refused:?}");
    }
    store.record_registration(&again, Some(&a.client_id)).await.unwrap();
    assert_eq!(kept().await, [again, b], "a client has one registration: the last");
    assert_eq!(generation().await, first + 3);
}

pub(super) async fn survive<S: KeyStore>(store: S, reopen: impl AsyncFn(S) -> S) -> Result<S, StoreError> {
    let result = of("c", "id of c");
    store.record_registration(&result, None).await?;
    let store = reopen(store).await;
    assert_eq!(store.records().await?.registrations, [result], "registrations must survive");
    Ok(store)
}

fn of(client: &str, client_id: &str) -> RegistrationResult {
    RegistrationResult {
        client: client.parse().unwrap(),
        client_id: client_id.to_owned(),
        registration_uri: Some(format!("https://as.example/register/{client}")),
        recorded: Timestamp::from_millis(1_800_000_000_123),
    }
}
