//! What the threads inside one library may not do at once, though PKCS#11 lets them (`CKF_OS_LOCKING_OK`).
//!
//! - SoftHSM crashes where two make keys at once, and shows an object while it is being written: a search that meets it
//!   spoils it, and `C_GenerateKeyPair` fails and leaves a part of it.
//! - The library of TPMs opens and closes sessions without a lock: two threads get one session, or one loses its own to
//!   another's end, or the process crashes.
//!
//! Signatures wait for none of this. Who waits for longer than [`PATIENCE`] goes on beside the others: a library that takes
//! so long is stuck, or is one for hardware, which keeps its objects in order by itself.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The turns of one library.
#[derive(Default)]
pub(super) struct Turns {
    objects: RwLock<()>,
    sessions: Mutex<()>,
}

/// A turn, until it is dropped.
#[must_use]
pub(super) struct Turn<T>(T);

impl Turns {
    /// To search, or to read what was found: beside others who do, and while nobody changes anything. For a few calls at
    /// a time, for who wants to change something waits for their end. Not to be asked for by who has one already.
    pub(super) fn look(&self) -> Turn<Option<RwLockReadGuard<'_, ()>>> {
        Turn(self.objects.try_read_for(PATIENCE))
    }

    /// To make or destroy objects or tokens.
    pub(super) fn change(&self) -> Turn<RwLockWriteGuard<'_, ()>> {
        Turn(self.objects.write())
    }

    /// To open a session, to close one, or to log in: one call.
    pub(super) fn session(&self) -> Turn<Option<MutexGuard<'_, ()>>> {
        Turn(self.sessions.try_lock_for(PATIENCE))
    }
}

/// Longer than soft tokens take for a pair of RSA keys.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_look_and_one_changes() {
        let turns = Turns::default();
        let looks = [turns.look(), turns.look()];
        assert!(turns.objects.try_write().is_none(), "somebody looks");
        drop(looks);
        let change = turns.change();
        assert!(turns.objects.try_read().is_none(), "somebody changes");
        let _session = turns.session();
        drop(change);
        assert!(turns.look().0.is_some());
    }
}
