//! What goes wrong with PKCS#11 tokens only: how they are found, and how they go away and return.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use hallmark::hsm::pkcs11::{Module, Modules, Pkcs11Token, TokenSelector, provision_token};
use hallmark_core::{
    client::Custody,
    key::{Alg, KeySpec},
    ports::{FaultClass, Hsm, HsmFault, KeyRef, NewKey, PinLedger, ResetRefused},
};
use hallmark_testkit::{
    child::in_child, fault_module::FaultModule, p11_kit::P11Kit, pin_ledger::MemoryPinLedger, softhsm::SoftHsm,
};

use super::harness::{fault_module, initialise_token, p11_kit, pin_source, softhsm};

fn token(module: &Arc<Module>, selector: TokenSelector, pin: &Path, ledger: &Arc<MemoryPinLedger>) -> Pkcs11Token {
    let ledger: Arc<dyn PinLedger> = ledger.clone();
    Pkcs11Token::new(module.clone(), selector, pin_source(pin), ledger)
}

fn label(label: &str) -> TokenSelector {
    TokenSelector::Label(label.into())
}

#[test]
fn a_token_that_is_not_there_or_there_twice_is_named() {
    let test = "hsm_contract::pkcs11_faults::a_token_that_is_not_there_or_there_twice_is_named";
    let prepare = || {
        let (hsm, env) = softhsm();
        hsm.add_token("twin");
        hsm.add_token("twin");
        (hsm, env)
    };
    in_child(test, prepare, || {
        let hsm = SoftHsm::from_env();
        let modules = Modules::default();
        let module = modules.load(SoftHsm::MODULE.as_ref()).unwrap();
        let connect = |selector| {
            token(&module, selector, &hsm.pin_file(), &Arc::default())
                .connect()
                .map_err(|fault| (fault.class, fault.code))
        };

        let (class, text) = connect(label("absent")).unwrap_err();
        assert_eq!(class, FaultClass::Gone);
        assert!(text.contains("`absent` is not there") && text.contains("`hallmark-test` (serial `"), "{text}");
        assert!(text.contains("hint: "), "{text}");

        let (class, text) = connect(label("twin")).unwrap_err();
        assert_eq!(class, FaultClass::Gone);
        assert!(text.contains("there 2 times") && text.contains("hint: name one by `token_serial`"), "{text}");

        // One of the two, by the serial that the message shows.
        let serial = text.split('`').nth(3).unwrap().to_owned();
        let facts = connect(TokenSelector::Serial(serial.clone())).unwrap();
        assert_eq!(facts.serial, serial);
        assert!(connect(TokenSelector::Serial("0000".into())).is_err());

        // The same library by another path is the same module.
        let link = hsm.folder().join("link.so");
        std::os::unix::fs::symlink(SoftHsm::MODULE, &link).unwrap();
        assert!(Arc::ptr_eq(&module, &modules.load(&link).unwrap()));
    });
}

#[test]
fn two_tokens_of_one_library_work_side_by_side() {
    let test = "hsm_contract::pkcs11_faults::two_tokens_of_one_library_work_side_by_side";
    let prepare = || {
        let (hsm, env) = softhsm();
        hsm.add_token("second");
        (hsm, env)
    };
    in_child(test, prepare, || {
        let hsm = SoftHsm::from_env();
        let module = Modules::default().load(SoftHsm::MODULE.as_ref()).unwrap();
        let [first, second] =
            [SoftHsm::LABEL, "second"].map(|name| token(&module, label(name), &hsm.pin_file(), &Arc::default()));
        first.connect().unwrap();
        second.connect().unwrap();
        let keys = [&first, &second].map(|hsm| (hsm, Key::generate(hsm)));
        first.disconnect();
        assert!(first.reset().is_err(), "the library was taken from under the other token");
        first.connect().unwrap();
        for (hsm, key) in &keys {
            key.sign(*hsm).unwrap();
        }
        // What is on one is not on the other.
        assert_eq!(keys[0].1.sign(&second).unwrap_err().class, FaultClass::KeyAbsent);

        // The library gives the handles of before again: the end of an old session must not be that of a new one.
        let old: Vec<_> = (0..4).map(|_| second.open().unwrap()).collect();
        first.disconnect();
        second.disconnect();
        first.reset().unwrap();
        first.connect().unwrap();
        let mut new: Vec<_> = (0..64).map(|_| first.open().unwrap()).collect();
        drop(old);
        for session in &mut new {
            session.sign(&keys[0].1.as_ref(), Alg::ES256, b"message").unwrap();
        }
    });
}

/// As AWS CloudHSM's library does.
#[test]
fn a_library_that_opens_no_read_only_sessions_is_signed_with() {
    let test = "hsm_contract::pkcs11_faults::a_library_that_opens_no_read_only_sessions_is_signed_with";
    let prepare = || {
        let (kept, env) = fault_module();
        kept.1.set("session refuse-read-only");
        (kept, env)
    };
    in_child(test, prepare, || {
        let hsm = SoftHsm::from_env();
        let module = Modules::default().load(&FaultModule::library()).unwrap();
        let token = token(&module, label(SoftHsm::LABEL), &hsm.pin_file(), &Arc::default());
        token.connect().unwrap();
        let key = Key::generate(&token);
        key.sign(&token).unwrap();
    });
}

#[test]
fn a_pair_that_was_made_and_denied_leaves_nothing() {
    let test = "hsm_contract::pkcs11_faults::a_pair_that_was_made_and_denied_leaves_nothing";
    let prepare = || {
        let (kept, env) = fault_module();
        kept.1.set("C_GenerateKeyPair return-after CKR_DEVICE_ERROR times=1");
        (kept, env)
    };
    in_child(test, prepare, || {
        let hsm = SoftHsm::from_env();
        let module = Modules::default().load(&FaultModule::library()).unwrap();
        let token = token(&module, label(SoftHsm::LABEL), &hsm.pin_file(), &Arc::default());
        token.connect().unwrap();
        let new = NewKey { cka_id: b"1", label: "one", spec: KeySpec { alg: Alg::ES256, rsa_bits: 0 } };
        let mut session = token.open().unwrap();
        assert_eq!(session.generate(&new).unwrap_err().code, "CKR_DEVICE_ERROR");
        assert_eq!(session.list(), Ok(Vec::new()));
        session.generate(&new).unwrap();
    });
}

/// The keeper of the absent one asks for a new start of the library with every try; no worker of the other feels it.
#[test]
fn a_token_signs_on_while_another_of_its_library_is_absent() {
    let test = "hsm_contract::pkcs11_faults::a_token_signs_on_while_another_of_its_library_is_absent";
    in_child(test, softhsm, || {
        let hsm = SoftHsm::from_env();
        let module = Modules::default().load(SoftHsm::MODULE.as_ref()).unwrap();
        let [healthy, absent] =
            [SoftHsm::LABEL, "absent"].map(|name| token(&module, label(name), &hsm.pin_file(), &Arc::default()));
        healthy.connect().unwrap();
        let key = Key::generate(&healthy);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        // A new session each time: opening and closing must be as undisturbed as signing.
                        while !done.load(Ordering::Relaxed) {
                            key.sign(&healthy)?;
                        }
                        Ok::<_, HsmFault>(())
                    })
                })
                .collect();
            let refused: Vec<_> = (0..100)
                .map(|_| {
                    let fault = absent.connect().unwrap_err();
                    absent.disconnect();
                    (fault.class, absent.reset())
                })
                .collect();
            done.store(true, Ordering::Relaxed);
            assert!(refused.iter().all(|r| *r == (FaultClass::Gone, Err(ResetRefused::SharedLibrary))), "{refused:?}");
            for worker in workers {
                worker.join().unwrap().unwrap();
            }
        });
        assert!(healthy.open().is_ok());
    });
}

#[test]
fn a_wrong_pin_is_named_and_tried_again_once_its_file_is_written_anew() {
    let test = "hsm_contract::pkcs11_faults::a_wrong_pin_is_named_and_tried_again_once_its_file_is_written_anew";
    in_child(test, softhsm, || {
        let hsm = SoftHsm::from_env();
        let module = Modules::default().load(SoftHsm::MODULE.as_ref()).unwrap();
        let ledger = Arc::new(MemoryPinLedger::default());
        let file = hsm.other_pin_file("other", "00000000");
        let connect = || token(&module, label(SoftHsm::LABEL), &file, &ledger).connect();

        let refused = connect().unwrap_err();
        assert!(refused.code.starts_with("CKR_PIN_INCORRECT"), "{refused}");
        for _restart in 0..10 {
            let again = connect().unwrap_err();
            assert_eq!(again.class, FaultClass::Pin);
            let touch = format!("hint: correct the PIN, then write the file anew (touch `{}`)", file.display());
            assert!(again.code.contains("tried before and not accepted") && again.code.contains(&touch), "{again}");
        }
        assert_eq!(ledger.tries(), 1);

        // As an operator would, and with a time that differs for certain.
        hsm.other_pin_file("other", SoftHsm::PIN);
        std::fs::File::options().append(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        connect().unwrap();
        std::fs::remove_file(&file).unwrap();
        let missing = connect().unwrap_err();
        assert_eq!(missing.class, FaultClass::Pin);
        assert!(missing.code.contains("can't read the PIN from"), "{missing}");
    });
}

#[test]
fn a_token_is_provisioned_once_also_when_that_was_cut_short() {
    let test = "hsm_contract::pkcs11_faults::a_token_is_provisioned_once_also_when_that_was_cut_short";
    let prepare = || {
        let hsm = SoftHsm::without_token();
        let env = hsm.env();
        (hsm, env)
    };
    in_child(test, prepare, || {
        let hsm = SoftHsm::from_env();
        let module = Modules::default().load(SoftHsm::MODULE.as_ref()).unwrap();
        // What a process leaves that ends before it sets the user PIN.
        initialise_token("cut", SoftHsm::SO_PIN);

        for name in ["cut", "dev"] {
            let provision = || provision_token(&module, name, &SoftHsm::SO_PIN.into(), &SoftHsm::PIN.into());
            let serial = provision().unwrap();
            let token = token(&module, label(name), &hsm.pin_file(), &Arc::default());
            assert_eq!(token.connect().unwrap().serial, serial);
            Key::generate(&token).sign(&token).unwrap();
            token.disconnect();
            // And one that ends before it notes the serial.
            assert_eq!(provision(), Ok(serial), "a finished token is found again");
            assert!(token.connect().is_ok(), "its PIN was changed");
        }

        for _ in 0..2 {
            initialise_token("twin", SoftHsm::SO_PIN);
        }
        let twins = provision_token(&module, "twin", &SoftHsm::SO_PIN.into(), &SoftHsm::PIN.into()).unwrap_err();
        assert!(twins.code.contains("more than one token") && twins.code.contains("hint: "), "{twins}");
    });
}

/// The line to the token is cut with calls under way, and mended: no thread hangs or panics, calls fail as `Gone` or
/// as something that leads there, and after the library was started anew the old keys sign again.
#[test]
fn a_token_that_was_cut_off_signs_again_when_it_is_back() {
    let test = "hsm_contract::pkcs11_faults::a_token_that_was_cut_off_signs_again_when_it_is_back";
    in_child(test, p11_kit, || {
        let softhsm = SoftHsm::from_env();
        let mut server = P11Kit::new(&softhsm);
        server.start();
        let module = Modules::default().load(&P11Kit::module()).unwrap();
        let ledger = Arc::new(MemoryPinLedger::default());
        let hsm = token(&module, label(SoftHsm::LABEL), &softhsm.pin_file(), &ledger);
        hsm.connect().unwrap();
        let key = Key::generate(&hsm);

        for round in 1..=3 {
            let faults = std::thread::scope(|scope| {
                let (signed, has_signed) = std::sync::mpsc::channel();
                // One: in p11-kit's client a call that waits behind another may never return when the server dies.
                let workers: Vec<_> = (0..1)
                    .map(|_| {
                        let (signed, hsm, key) = (signed.clone(), &hsm, &key);
                        scope.spawn(move || {
                            let mut session = hsm.open().unwrap();
                            loop {
                                match session.sign(&key.as_ref(), Alg::ES256, b"message") {
                                    Ok(_) => drop(signed.send(())),
                                    Err(fault) => return fault,
                                }
                            }
                        })
                    })
                    .collect();
                (0..30).for_each(|_| has_signed.recv().unwrap());
                server.kill();
                workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
            });
            for fault in &faults {
                let leads_to_gone = [FaultClass::Gone, FaultClass::Unspecific, FaultClass::Session];
                assert!(leads_to_gone.contains(&fault.class), "{fault}: {:?}", fault.class);
            }
            hsm.disconnect();
            hsm.reset().unwrap();
            assert!(hsm.connect().is_err(), "connected to a server that is down");

            server.start();
            hsm.disconnect();
            hsm.reset().unwrap();
            hsm.connect().unwrap();
            key.sign(&hsm).unwrap();
            assert_eq!(ledger.tries(), 1 + round);
        }
    });
}

#[test]
fn a_module_that_does_not_start_says_so() {
    let test = "hsm_contract::pkcs11_faults::a_module_that_does_not_start_says_so";
    let conf = vec![("SOFTHSM2_CONF".into(), PathBuf::from("/nonexistent/softhsm2.conf").into())];
    in_child(
        test,
        || ((), conf),
        || {
            let error = Modules::default().load(SoftHsm::MODULE.as_ref()).unwrap_err().to_string();
            assert!(error.contains("does not start: C_Initialize: CKR_") && error.contains("SOFTHSM2_CONF"), "{error}");
        },
    );
}

struct Key {
    label: String,
    public: hallmark_core::public_key::PublicKey,
}

impl Key {
    fn generate(hsm: &dyn Hsm) -> Self {
        let label = format!("key-{:p}", hsm);
        let new = NewKey { cka_id: label.as_bytes(), label: &label, spec: KeySpec { alg: Alg::ES256, rsa_bits: 0 } };
        let public = hsm.open().unwrap().generate(&new).unwrap();
        Self { label, public }
    }

    fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { cka_id: self.label.as_bytes(), label: &self.label, public: &self.public, custody: Custody::Local }
    }

    fn sign(&self, hsm: &dyn Hsm) -> Result<(), HsmFault> {
        let signature = hsm.open()?.sign(&self.as_ref(), Alg::ES256, b"message")?;
        assert!(self.public.verifier(Alg::ES256).unwrap().verifies(b"message", &signature));
        Ok(())
    }
}
