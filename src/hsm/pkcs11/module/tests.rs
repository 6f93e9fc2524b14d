use std::{sync::mpsc, thread};

use super::*;

#[test]
fn a_closed_gate_sends_away_who_comes_and_opens_again() {
    let gate = Gate::default();
    let mut closed = gate.close(Duration::ZERO).unwrap();
    assert_eq!(gate.enter(), None);
    assert!(gate.close(Duration::ZERO).is_none());
    closed.next_generation();
    drop(closed);
    assert_eq!(gate.enter(), Some(1));
}

#[test]
fn closing_waits_for_who_is_inside_but_not_for_ever() {
    let gate = Gate::default();
    gate.enter().unwrap();
    assert!(gate.close(Duration::from_millis(1)).is_none());
    assert!(gate.enter().is_some(), "the gate stayed closed after a vain try");
    gate.leave();

    let (closing, is_closing) = mpsc::channel();
    thread::scope(|scope| {
        let closer = scope.spawn(|| {
            closing.send(()).unwrap();
            gate.close(Duration::from_secs(60)).is_some()
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
