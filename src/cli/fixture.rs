//! A key as the server shows it, for the tests of what commands print.

use std::time::{Duration, UNIX_EPOCH};

use hallmark_client::{Key, KeyState};

/// Of the client `clinic`, published since it was created, with no certificate.
pub(super) fn sample_key(kid: &str, state: KeyState) -> Key {
    let created_at = Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    Key {
        id: "id-1".to_owned(),
        client: Some("clinic".to_owned()),
        alg: "RS384".to_owned(),
        hsm: "softhsm".to_owned(),
        kid: Some(kid.to_owned()),
        state,
        purpose: "assertion".to_owned(),
        origin: "generated".to_owned(),
        cka_id: vec![0, 255],
        label: "label".to_owned(),
        spki: vec![48, 0],
        created_at,
        published_at: created_at,
        activated_at: None,
        deactivated_at: None,
        retired_at: None,
        compromised_at: None,
        destroyed_at: None,
        absent: false,
        next_step: None,
        certificate_chain: Vec::new(),
        certificate: None,
        certificate_missing: false,
    }
}
