//! What the black-box tests share: servers of their own, callers, certificates, and ways to wait.

pub(crate) mod audit_log;
pub(crate) mod caller;
pub(crate) mod dev;
pub(crate) mod edge;
pub(crate) mod faketime;
pub(crate) mod issuer;
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod root;
pub(crate) mod server;
pub(crate) mod site;
pub(crate) mod spy;
pub(crate) mod token_request;
pub(crate) mod verifiers;

use std::time::{Duration, Instant};

pub(crate) use self::{
    caller::{Caller, Refusal},
    dev::Dev,
    process::Process,
    server::Server,
    site::Site,
};

/// The program under test.
pub(crate) const HALLMARK: &str = env!("CARGO_BIN_EXE_hallmark");

/// For what has no event to wait for: looks again until there is an answer. Panics with `what` when it takes too long.
pub(crate) async fn eventually<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// As [`eventually`], outside a runtime.
#[expect(clippy::disallowed_methods, reason = "a file and a process id have no event to wait for")]
pub(crate) fn eventually_blocking<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Long enough for a machine that is busy with other tests; nothing is measured against it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// `short` in `make test`, `long` in `make soak`.
pub(crate) fn soak_or<T>(short: T, long: T) -> T {
    if std::env::var("HALLMARK_SOAK").is_ok_and(|form| form == "full") { long } else { short }
}

/// The claims of an assertion, unverified.
pub(crate) fn claims(assertion: &str) -> serde_json::Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let payload = assertion.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
