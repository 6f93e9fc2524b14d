//! How long it takes until another replica serves a change.

use std::{
    error::Error,
    thread,
    time::{Duration, Instant},
};

use hallmark_client::{Client, KeyAction, KeyState};
use tokio::runtime::Builder;

use crate::{
    estate::{Running, path},
    sandbox::get,
};

/// Revokes the standbys of so many clients at `one`, one after the other. From the answer to the operator until the key
/// is gone from the set that `other` serves.
pub(crate) fn measure(one: &Running<'_>, other: &Running<'_>, changes: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let operator = runtime.block_on(async { Client::connect(one.server.operator()) })?;
    let revoke = |client: &String| -> Result<Duration, Box<dyn Error>> {
        let keys = runtime.block_on(operator.list_keys(Some(client)))?;
        let standby = keys.into_iter().find(|key| key.state == KeyState::PreActive).and_then(|key| key.kid);
        let standby = standby.ok_or("no standby")?;
        let is_served = || get(other.server.jwks(), &path(client)).map(|set| set.contains(&standby));
        if !is_served()? {
            return Err(format!("the other replica did not serve the standby of {client}").into());
        }
        runtime.block_on(operator.alter_key(KeyAction::Revoke, &standby, "benchmark"))?;
        let answered = Instant::now();
        while is_served()? {
            if answered.elapsed() > Duration::from_secs(60) {
                return Err("the other replica did not see the change within a minute".into());
            }
            #[expect(clippy::disallowed_methods, reason = "another process tells nobody what it serves")]
            thread::sleep(Duration::from_millis(2));
        }
        Ok(answered.elapsed())
    };
    one.signing().iter().take(changes).map(revoke).collect()
}
