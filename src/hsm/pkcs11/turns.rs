//! What the threads inside one library may not do at once, though PKCS#11 lets them (`CKF_OS_LOCKING_OK`).
//!
//! - SoftHSM crashes where two make keys at once, and shows an object while it is being written: a search that meets it
//!   spoils it, and `C_GenerateKeyPair` fails and leaves a part of it.
//! - SoftHSM takes note of what another process put on a token, but not of what came while it made an object itself: that
//!   stays unseen until the library is started anew. So changes are one at a time among all processes, too.
//! - The library of TPMs opens and closes sessions without a lock: two threads get one session, or one loses its own to
//!   another's end, or the process crashes.
//!
//! Signatures wait for none of this. Who waits for longer than [`PATIENCE`] goes on beside the others: a library that takes
//! so long is stuck, or is one for hardware, which keeps its objects in order by itself.

use std::{
    fs::{File, TryLockError},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The turns of one library.
pub(super) struct Turns {
    /// Its file: what all processes have in common that use it, whoever configured them.
    library: PathBuf,
    objects: RwLock<()>,
    sessions: Mutex<()>,
}

/// A turn, until it is dropped.
#[must_use]
pub(super) struct Turn<T>(T);

impl Turns {
    pub(super) fn new(library: PathBuf) -> Self {
        Self { library, objects: RwLock::default(), sessions: Mutex::default() }
    }

    /// To search, or to read what was found: beside others who do, and while nobody changes anything. For a few calls at
    /// a time, for who wants to change something waits for their end. Not to be asked for by who has one already.
    ///
    /// `before` is what there is to do before a wait.
    pub(super) fn look(&self, before: impl FnOnce()) -> Turn<Option<RwLockReadGuard<'_, ()>>> {
        if let Some(turn) = self.objects.try_read() {
            return Turn(Some(turn));
        }
        before();
        Turn(self.objects.try_read_for(PATIENCE))
    }

    /// To make or destroy objects or tokens.
    pub(super) fn change(&self) -> Turn<(Option<File>, RwLockWriteGuard<'_, ()>)> {
        let here = self.objects.write();
        Turn((self.among_processes(), here))
    }

    /// To open a session, to close one, or to log in: one call.
    pub(super) fn session(&self) -> Turn<Option<MutexGuard<'_, ()>>> {
        Turn(self.sessions.try_lock_for(PATIENCE))
    }

    /// An advisory lock on the library's file (`flock`), which takes no more than to read it. `None` where the file system
    /// has no locks.
    #[expect(clippy::disallowed_methods, reason = "another process tells nobody when it is done")]
    fn among_processes(&self) -> Option<File> {
        let library = File::open(&self.library).ok()?;
        let end = Instant::now() + PATIENCE;
        loop {
            match library.try_lock() {
                Ok(()) => return Some(library),
                Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(TRY_AGAIN),
                Err(_) => return None,
            }
        }
    }
}

/// Longer than soft tokens take for a pair of RSA keys.
const PATIENCE: Duration = Duration::from_secs(5);

/// A key takes longer.
const TRY_AGAIN: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn changes_of_two_processes_are_made_one_after_the_other() {
        let library = tempfile::NamedTempFile::new().unwrap();
        let [one, other] = [(); 2].map(|()| Turns::new(library.path().to_owned()));
        let held = one.change();
        let (done, is_done) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _turn = other.change();
                done.send(()).unwrap();
            });
            assert_eq!(is_done.recv_timeout(Duration::from_millis(100)), Err(mpsc::RecvTimeoutError::Timeout));
            drop(held);
            is_done.recv().unwrap();
        });
        drop(Turns::new("/nonexistent".into()).change());
    }

    #[test]
    fn many_look_and_one_changes() {
        let turns = Turns::new("/nonexistent".into());
        let at_once = || turns.look(|| panic!("it waits"));
        let looks = [at_once(), at_once()];
        assert!(turns.objects.try_write().is_none(), "somebody looks");
        drop(looks);
        let change = turns.change();
        assert!(turns.objects.try_read().is_none(), "somebody changes");
        let _session = turns.session();
        drop(change);
        assert!(at_once().0.is_some());
    }
}
