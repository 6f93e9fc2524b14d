//! Access tokens, kept until shortly before they end; one request at a time for each.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{AccessToken, Error, SignRequest, reason::DEADLINE_EXCEEDED};

/// What has been asked for, and what came of it. The key is the request without its time-out.
#[derive(Clone, Default)]
pub(crate) struct TokenCache {
    slots: Arc<Mutex<HashMap<SignRequest, Slot>>>,
}

enum Slot {
    Kept { token: AccessToken, until: Instant },
    Flight(Flight),
}

/// A request under way, in a task of its own: callers come and go without harm to it.
#[derive(Clone)]
struct Flight {
    /// The latest deadline of all who have waited for it.
    deadline: Arc<Mutex<Instant>>,
    landed: watch::Receiver<Option<Result<AccessToken, Error>>>,
}

enum Boarded {
    Kept(AccessToken),
    Flight(Flight),
}

/// How long a flight may last, as of now.
#[derive(Clone)]
pub(crate) struct Patience(Arc<Mutex<Instant>>);

impl Patience {
    pub(crate) fn deadline(&self) -> Instant {
        *lock(&self.0)
    }
}

impl TokenCache {
    /// The access token for `key`: kept, on its way, or asked for now with `fetch`.
    pub(crate) async fn get<F>(
        &self,
        key: SignRequest,
        deadline: Instant,
        fetch: impl Fn(Patience) -> F,
    ) -> Result<AccessToken, Error>
    where
        F: Future<Output = Result<AccessToken, Error>> + Send + 'static,
    {
        loop {
            let mut flight = match self.board(&key, deadline, &fetch) {
                Boarded::Kept(token) => return Ok(token),
                Boarded::Flight(flight) => flight,
            };
            let landed = timeout_at(deadline, flight.landed.wait_for(Option::is_some)).await;
            match landed {
                Ok(Ok(result)) => match result.as_ref() {
                    // It ended with the patience of others, who had less than this caller has.
                    Some(Err(error)) if error.reason() == DEADLINE_EXCEEDED && Instant::now() < deadline => {}
                    Some(result) => return result.clone(),
                    None => {}
                },
                // Its task panicked, or is gone with the runtime that it ran on. Not started anew for this caller: what
                // panics once would do so again at once. The next call starts another.
                Ok(Err(_)) => return Err(Error::unexpected("the token request under way ended without an outcome")),
                Err(_) => return Err(Error::deadline("there was no access token in time")),
            }
        }
    }

    /// Forgets `token`, wherever it is kept.
    pub(crate) fn forget(&self, token: &AccessToken) {
        lock(&self.slots).retain(|_, slot| !matches!(slot, Slot::Kept { token: kept, .. } if kept.same(token)));
    }

    /// The token that is kept, or the flight that will bring one.
    fn board<F>(&self, key: &SignRequest, deadline: Instant, fetch: &impl Fn(Patience) -> F) -> Boarded
    where
        F: Future<Output = Result<AccessToken, Error>> + Send + 'static,
    {
        let mut slots = lock(&self.slots);
        match slots.get(key) {
            Some(Slot::Kept { token, until }) if Instant::now() < *until => return Boarded::Kept(token.clone()),
            Some(Slot::Flight(flight)) if flight.landed.has_changed().is_ok() => {
                let mut latest = lock(&flight.deadline);
                *latest = deadline.max(*latest);
                return Boarded::Flight(flight.clone());
            }
            _ => {}
        }
        slots.retain(|_, slot| !matches!(slot, Slot::Kept { until, .. } if *until <= Instant::now()));
        let flight = self.take_off(key.clone(), deadline, fetch);
        slots.insert(key.clone(), Slot::Flight(flight.clone()));
        Boarded::Flight(flight)
    }

    fn take_off<F>(&self, key: SignRequest, deadline: Instant, fetch: &impl Fn(Patience) -> F) -> Flight
    where
        F: Future<Output = Result<AccessToken, Error>> + Send + 'static,
    {
        let (land, landed) = watch::channel(None);
        let deadline = Arc::new(Mutex::new(deadline));
        let fetching = fetch(Patience(deadline.clone()));
        let slots = self.slots.clone();
        tokio::spawn(async move {
            let asked = Instant::now();
            let result = fetching.await;
            // First the slot, then the callers: whoever asks after an error starts anew.
            match result.as_ref().ok().and_then(|token| Some((token, keep_until(asked, token.granted_for()?)?))) {
                Some((token, until)) => lock(&slots).insert(key, Slot::Kept { token: token.clone(), until }),
                None => lock(&slots).remove(&key),
            };
            land.send_replace(Some(result));
        });
        Flight { deadline, landed }
    }
}

/// Counted from before the request, since the authorization server counts from somewhere during it. The margin is for
/// the way of the access token to whoever checks it: a tenth of its life, at most a minute.
fn keep_until(asked: Instant, granted_for: Duration) -> Option<Instant> {
    asked.checked_add(granted_for - (granted_for / 10).min(Duration::from_secs(60)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
