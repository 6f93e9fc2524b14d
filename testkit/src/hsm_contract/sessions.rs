//! What a backend must do with sessions and logins: have many, lose them, and get them back.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use hallmark_core::{
    key::Alg,
    ports::{FaultClass, HsmFault, ResetRefused},
};

use super::{
    PinCase, Subject, class, connected,
    sample::{Key, P256},
};
use crate::{pin_ledger::MemoryPinLedger, software_key::SoftwareKey};

pub(super) fn keys_survive(subject: &dyn Subject) {
    let key = {
        let hsm = connected(subject);
        let mut session = hsm.open().unwrap();
        let key = Key::generate(session.as_mut(), Alg::ES256);
        drop(session);
        key.assert_signs(hsm.open().unwrap().as_mut());
        hsm.disconnect();
        hsm.connect().unwrap();
        key.assert_signs(hsm.open().unwrap().as_mut());
        key
    };
    key.assert_signs(connected(subject).open().unwrap().as_mut());
}

pub(super) fn old_sessions_are_stale(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut old = hsm.open().unwrap();
    let key = Key::generate(old.as_mut(), Alg::ES256);
    hsm.disconnect();
    assert_eq!(class(key.sign(old.as_mut())), FaultClass::Gone);
    hsm.connect().unwrap();
    let mut new = hsm.open().unwrap();
    assert_eq!(class(key.sign(old.as_mut())), FaultClass::Session);
    // Its end must not be that of another: handles are given again.
    drop(old);
    key.assert_signs(new.as_mut());
}

pub(super) fn concurrent_sessions(subject: &dyn Subject) {
    let hsm = connected(subject);
    let keys = [Alg::RS256, Alg::ES256].map(|alg| Key::generate(hsm.open().unwrap().as_mut(), alg));
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = hsm.open().unwrap();
                start.wait();
                for _ in 0..25 {
                    keys.iter().for_each(|key| key.assert_signs(session.as_mut()));
                }
            });
        }
    });
}

/// The library of a TPM gives two threads one session, where nobody sees to it that it is asked by one at a time.
pub(super) fn sessions_come_and_go(subject: &dyn Subject) {
    let hsm = connected(subject);
    let at_once = Barrier::new(4);
    let opened_and_used = |_| {
        at_once.wait();
        hsm.open().and_then(|mut session| session.list()).map(drop)
    };
    let come_and_go = || (0..100).map(opened_and_used).collect::<Vec<_>>();
    thread::scope(|scope| {
        for thread in [(); 4].map(|()| scope.spawn(come_and_go)) {
            thread.join().unwrap().into_iter().for_each(|used| assert_eq!(used, Ok(())));
        }
    });
}

pub(super) fn concurrent_generation(subject: &dyn Subject) {
    let hsm = connected(subject);
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut session = hsm.open().unwrap();
                start.wait();
                for alg in [Alg::ES256, Alg::RS256] {
                    Key::generate(session.as_mut(), alg).assert_signs(session.as_mut());
                }
            });
        }
    });
}

/// Soft tokens show others an object while it is being written, and have it spoilt by who looks.
pub(super) fn searches_beside_changes(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut changer = hsm.open().unwrap();
    let before = changer.list().unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let searchers = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut session = hsm.open()?;
                while !is_over.load(Ordering::Relaxed) {
                    session.list()?;
                }
                Ok::<_, HsmFault>(())
            })
        });
        let changed = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..subject.changes() {
                let key = Key::generate(changer.as_mut(), Alg::ES256);
                key.assert_signs(changer.as_mut());
                changer.destroy(&key.as_ref()).unwrap();
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        searchers.into_iter().for_each(|searcher| assert_eq!(searcher.join().unwrap(), Ok(())));
        changed.unwrap_or_else(|panic| resume_unwind(panic));
    });
    assert_eq!(changer.list().unwrap(), before, "halves are left");
}

pub(super) fn lost_session(subject: &dyn Subject) {
    let Some(losses) = subject.losses() else { return };
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    key.assert_signs(session.as_mut());
    losses.lose_sessions();
    key.assert_signs_after_one_retry(hsm.as_ref(), session);
}

pub(super) fn lost_login(subject: &dyn Subject) {
    let Some(losses) = subject.losses() else { return };
    let ledger = Arc::new(MemoryPinLedger::default());
    let hsm = subject.hsm(PinCase::Right, ledger.clone());
    hsm.connect().unwrap();
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    key.assert_signs(session.as_mut());
    losses.log_out();
    key.assert_signs_after_one_retry(hsm.as_ref(), session);
    assert_eq!(ledger.tries(), 2);

    // All workers notice at once; one of them logs in.
    losses.log_out();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| key.assert_signs(hsm.open().unwrap().as_mut()));
        }
    });
    assert_eq!(ledger.tries(), 3);
}

pub(super) fn stale_handle(subject: &dyn Subject) {
    if !subject.plants() {
        return;
    }
    let [hsm, other] = [connected(subject), connected(subject)];
    let software = Arc::new(SoftwareKey::generate(P256));
    let key = Key::of(subject, &software, false);
    let mut session = hsm.open().unwrap();
    key.assert_signs(session.as_mut());
    other.open().unwrap().destroy(&key.as_ref()).unwrap();
    subject.plant(&key.cka_id, &key.label, &software, false);
    if let Err(fault) = key.sign(session.as_mut()) {
        assert_eq!(fault.class, FaultClass::Handle, "{fault}");
    }
    key.assert_signs(session.as_mut());
}

pub(super) fn wrong_pin_once(subject: &dyn Subject) {
    let ledger = Arc::new(MemoryPinLedger::default());
    // A login that sessions of before still hold would spare the PIN.
    subject.hsm(PinCase::Right, ledger.clone()).reset().unwrap();
    for _restart in 0..3 {
        let hsm = subject.hsm(PinCase::Wrong, ledger.clone());
        for _try in 0..2 {
            assert_eq!(class(hsm.connect()), FaultClass::Pin);
            assert_eq!(class(hsm.open()), FaultClass::Gone);
        }
    }
    assert_eq!(ledger.tries(), 1, "a wrong PIN was tried more than once");
    // The right one comes from another source, and is not held up.
    subject.hsm(PinCase::Right, ledger).connect().unwrap();
}

pub(super) fn closed_when_disconnected(subject: &dyn Subject) {
    let hsm = subject.hsm(PinCase::Right, Arc::new(MemoryPinLedger::default()));
    assert_eq!(class(hsm.open()), FaultClass::Gone);
    hsm.connect().unwrap();
    hsm.disconnect();
    hsm.disconnect();
    assert_eq!(class(hsm.open()), FaultClass::Gone);
}

pub(super) fn resets(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut old = hsm.open().unwrap();
    let key = Key::generate(old.as_mut(), Alg::ES256);
    assert_eq!(hsm.reset(), Err(ResetRefused::SharedLibrary));
    key.assert_signs(old.as_mut());
    hsm.disconnect();
    hsm.reset().unwrap();
    hsm.connect().unwrap();
    let mut new = hsm.open().unwrap();
    drop(old);
    key.assert_signs(new.as_mut());
}
