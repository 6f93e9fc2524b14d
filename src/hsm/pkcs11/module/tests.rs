use std::{sync::mpsc, thread};

use hallmark_testkit::{child::in_child, softhsm::SoftHsm};

use super::*;

#[test]
fn a_closed_gate_sends_away_who_comes_and_opens_again() {
    let gate = Gate::default();
    let mut closed = gate.close(Duration::ZERO).unwrap();
    assert_eq!(gate.enter(Duration::ZERO), None);
    assert_eq!(gate.enter_to_close(Duration::ZERO), None);
    assert!(gate.close(Duration::ZERO).is_none());
    closed.next_generation();
    drop(closed);
    assert_eq!(gate.enter(Duration::ZERO), Some(1));
}

#[test]
fn who_comes_to_a_closed_gate_waits_until_it_opens() {
    let gate = Gate::default();
    let mut closed = gate.close(Duration::ZERO).unwrap();
    let (coming, comes) = mpsc::channel();
    thread::scope(|scope| {
        let comer = scope.spawn(|| {
            coming.send(()).unwrap();
            gate.enter(LONG)
        });
        comes.recv().unwrap();
        closed.next_generation();
        drop(closed);
        assert_eq!(comer.join().unwrap(), Some(1), "it was not woken, or did not wait");
    });
}

/// A call that fails closes the session that it opened, from inside.
#[test]
fn who_is_inside_closes_sessions_while_the_gate_is_being_closed() {
    let gate = Gate::default();
    gate.enter(Duration::ZERO).unwrap();
    thread::scope(|scope| {
        let closer = scope.spawn(|| gate.close(LONG).is_some());
        // The gate is closed as soon as nobody else is let in.
        while gate.enter(Duration::ZERO).is_some() {
            gate.leave();
        }
        assert_eq!(gate.enter_to_close(Duration::ZERO), Some(0));
        gate.leave();
        gate.leave();
        assert!(closer.join().unwrap());
    });
}

/// The keeper of an absent token asks every second; the calls of its neighbours must not feel it.
#[test]
fn a_library_in_use_is_not_even_closed() {
    let test = "hsm::pkcs11::module::tests::a_library_in_use_is_not_even_closed";
    let prepare = || {
        let hsm = SoftHsm::new();
        let env = hsm.env();
        (hsm, env)
    };
    in_child(test, prepare, || {
        let module = Modules::default().load(SoftHsm::MODULE.as_ref()).unwrap();
        let inside = module.enter().unwrap();
        assert_eq!(module.reset(), Err(ResetRefused::ThreadInside));
        let in_use = module.in_use();
        assert_eq!(module.reset(), Err(ResetRefused::SharedLibrary), "it closed the gate and waited for this thread");
        drop((inside, in_use));
        assert_eq!(module.reset(), Ok(()));
    });
}

#[test]
fn closing_waits_for_who_is_inside_but_not_for_ever() {
    let gate = Gate::default();
    gate.enter(Duration::ZERO).unwrap();
    assert!(gate.close(Duration::from_millis(1)).is_none());
    assert!(gate.enter(Duration::ZERO).is_some(), "the gate stayed closed after a vain try");
    gate.leave();

    let (closing, is_closing) = mpsc::channel();
    thread::scope(|scope| {
        let closer = scope.spawn(|| {
            closing.send(()).unwrap();
            gate.close(LONG).is_some()
        });
        is_closing.recv().unwrap();
        gate.leave();
        assert!(closer.join().unwrap(), "the last to leave did not wake the one who waits");
    });
}

#[test]
fn a_path_that_is_no_module_is_said_to_be_so() {
    let modules = Modules::default();
    let missing = modules.load(Path::new("/nonexistent/libpkcs11.so")).unwrap_err();
    assert!(matches!(missing, ModuleError::Missing { .. }));
    assert!(missing.to_string().contains("`/nonexistent/libpkcs11.so`"), "{missing}");

    // A text, and a library that is something else.
    for path in ["/etc/passwd", "/lib/x86_64-linux-gnu/libm.so.6"] {
        let Err(error) = modules.load(Path::new(path)) else { panic!("{path} was taken") };
        assert!(!Path::new(path).exists() || matches!(error, ModuleError::NotAModule { .. }), "{path}: {error}");
        assert!(error.to_string().contains("hint: "), "{error}");
    }
}

const LONG: Duration = Duration::from_secs(60);
