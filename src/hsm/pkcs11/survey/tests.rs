use cryptoki::mechanism::MechanismType;

use super::*;

const GOOD: [&str; 3] = ["TOKEN_INITIALIZED", "LOGIN_REQUIRED", "USER_PIN_INITIALIZED"];

fn token(serial: &str, label: &str, flags: &[&str]) -> TokenShown {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    TokenShown { serial: serial.to_owned(), label: label.to_owned(), flags, ..TokenShown::default() }
}

fn mechanism(kind: MechanismType) -> Mechanism {
    Mechanism { name: kind.to_string(), id: *kind, ..Mechanism::default() }
}

fn with(kind: MechanismType, sizes: (u64, u64), flags: &[&str]) -> Mechanism {
    let flags = Some(flags.iter().map(|flag| (*flag).to_owned()).collect());
    Mechanism { key_sizes: Some(sizes), flags, ..mechanism(kind) }
}

fn survey(tokens: &[(TokenShown, &[MechanismType])]) -> Survey {
    let mut survey = Survey::default();
    survey.take(Event::Slots((0..tokens.len() as u64).collect()));
    for (slot, (token, list)) in (0..).zip(tokens) {
        survey.take(Event::Token(slot, token.clone()));
        survey.take(Event::Mechanisms(slot, list.iter().copied().map(mechanism).collect(), vec![0x8000_0001]));
        survey.take(Event::Session(slot));
    }
    survey
}

fn only(survey: &Survey) -> TokenVerdict {
    let [verdict] = judge(survey).try_into().unwrap();
    verdict
}

fn way(verdict: &TokenVerdict, alg: &str) -> Way {
    verdict.algs.iter().find(|judged| judged.alg == alg).unwrap().way.clone()
}

#[test]
fn fallbacks_are_told_and_what_is_missing_by_name() {
    let list = [
        MechanismType::RSA_PKCS_KEY_PAIR_GEN,
        MechanismType::RSA_PKCS,
        MechanismType::SHA256_RSA_PKCS,
        MechanismType::ECC_KEY_PAIR_GEN,
        MechanismType::ECDSA,
        MechanismType::EDDSA,
    ];
    let verdict = only(&survey(&[(token("1", "main", &GOOD), &list)]));
    assert!(verdict.is_usable(), "{verdict:?}");
    let full = |mechanism: &str, ours| Way::Full { mechanism: mechanism.to_owned(), ours };
    assert_eq!(way(&verdict, "RS256"), full("CKM_SHA256_RSA_PKCS", None));
    assert_eq!(way(&verdict, "RS384"), full("CKM_RSA_PKCS", Some("hash and DigestInfo by Hallmark")));
    assert_eq!(way(&verdict, "ES384"), full("CKM_ECDSA", Some("hash by Hallmark")));
    let Way::No { why } = way(&verdict, "PS256") else { panic!("{verdict:?}") };
    assert!(why.contains("CKM_SHA256_RSA_PKCS_PSS") && why.contains("CKM_RSA_PKCS_PSS"), "{why}");
    let Way::SignOnly { mechanism, ours: None, why } = way(&verdict, "EdDSA") else { panic!("{verdict:?}") };
    assert!(mechanism == "CKM_EDDSA" && why.contains("EDWARDS_KEY_PAIR_GEN"), "{mechanism}: {why}");
}

#[test]
fn key_sizes_and_flags_that_leave_no_room_are_doubts() {
    let mut survey = survey(&[(token("1", "main", &GOOD), &[])]);
    survey.slots.as_mut().unwrap().get_mut(&0).unwrap().mechanisms = Some(vec![
        with(MechanismType::RSA_PKCS_KEY_PAIR_GEN, (1024, 2048), &["GENERATE_KEY_PAIR"]),
        with(MechanismType::SHA256_RSA_PKCS, (1024, 2048), &["SIGN"]),
        with(MechanismType::SHA384_RSA_PKCS, (256, 512), &["VERIFY"]),
        with(MechanismType::ECC_KEY_PAIR_GEN, (256, 256), &[]),
        with(MechanismType::ECDSA, (256, 256), &["SIGN"]),
    ]);
    let verdict = only(&survey);
    let doubts = |alg: &str| verdict.algs.iter().find(|judged| judged.alg == alg).unwrap().doubts.join("; ");
    assert!(doubts("RS256").contains("of Hallmark's, 2048"), "{}", doubts("RS256"));
    assert!(doubts("RS384").contains("without CKF_SIGN") && doubts("RS384").contains("bytes"), "{}", doubts("RS384"));
    assert_eq!(doubts("ES256"), "CKM_EC_KEY_PAIR_GEN is listed without CKF_GENERATE_KEY_PAIR");
    assert!(doubts("ES384").contains("256 to 256 bits alone"), "{}", doubts("ES384"));
}

#[test]
fn a_token_is_named_by_what_tells_it_from_the_others() {
    let named = |tokens: &[TokenShown]| -> Vec<_> {
        let tokens: Vec<(TokenShown, &[MechanismType])> =
            tokens.iter().map(|token| (token.clone(), [MechanismType::ECDSA].as_slice())).collect();
        let section = |verdict: TokenVerdict| verdict.section.map(|section| (section.key, section.value, section.name));
        judge(&survey(&tokens)).into_iter().map(section).collect()
    };
    let is = |key, value: &str, name: &str| Ok((key, value.to_owned(), name.to_owned()));
    let (a, b) = (token("1", "Main HSM #1", &GOOD), token("2", "Main HSM #1", &GOOD));
    assert_eq!(named(&[a, b]), [is("token_serial", "1", "main-hsm-1"), is("token_serial", "2", "main-hsm-1")]);
    let (a, b) = (token("0", "a", &GOOD), token("0", "b", &GOOD));
    assert_eq!(named(&[a, b]), [is("token_label", "a", "a"), is("token_label", "b", "b")]);
    assert_eq!(named(&[token("", "ä", &GOOD)]), [is("token_label", "ä", "slot-0")]);
    let same = named(&[token("", "a", &GOOD), token("", "a", &GOOD)]);
    assert!(same.iter().all(Result::is_err), "{same:?}");
    // One that has no name of its own yet does not count.
    let fresh = token("1", "", &[]);
    let both = named(&[fresh, token("1", "a", &GOOD)]);
    assert!(both[0].is_err() && both[1] == is("token_serial", "1", "a"), "{both:?}");
}

#[test]
fn what_keeps_a_token_from_signing_is_told() {
    let list = [MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDSA];
    for (flags, word) in [
        (vec![], "not initialised"),
        (vec!["TOKEN_INITIALIZED", "LOGIN_REQUIRED"], "no user PIN yet"),
        ([GOOD.as_slice(), &["USER_PIN_LOCKED"]].concat(), "PIN is locked"),
        ([GOOD.as_slice(), &["USER_PIN_FINAL_TRY"]].concat(), "one try is left"),
        ([GOOD.as_slice(), &["ERROR_STATE"]].concat(), "self-test"),
    ] {
        let verdict = only(&survey(&[(token("1", "a", &flags), &list)]));
        assert!(!verdict.is_usable() && verdict.obstacles.join("; ").contains(word), "{flags:?}: {verdict:?}");
    }
    let mut silent = survey(&[(token("1", "a", &GOOD), &list)]);
    let found = silent.slots.as_mut().unwrap().get_mut(&0).unwrap();
    (found.mechanisms, found.session) = (None, false);
    assert_eq!(only(&silent).obstacles.len(), 2, "{silent:?}");
    let few = TokenShown { max_sessions: Some(3), unreadable: Some("a clock".to_owned()), ..token("1", "a", &GOOD) };
    let verdict = only(&survey(&[(few, &list)]));
    assert!(
        verdict.is_usable() && verdict.remarks.join("; ").contains("taken at the configuration's word"),
        "{verdict:?}"
    );
    assert_eq!(verdict.section.unwrap().workers, Some(1));
}

#[test]
fn what_is_told_twice_counts_once() {
    let mut found = survey(&[(token("1", "a", &GOOD), &[MechanismType::ECDSA])]);
    let known = with(MechanismType::ECDSA, (256, 521), &["SIGN"]);
    found.take(Event::Mechanism(0, known.clone()));
    // The second process, which leaves a call out.
    found.take(Event::Mechanisms(0, vec![mechanism(MechanismType::ECDSA)], vec![]));
    assert_eq!(found.slots.as_ref().unwrap()[&0].mechanisms, Some(vec![known]));
    let failure = Failure { step: Step::new("C_GetInfo"), end: End::Crashed { how: "signal 11".to_owned() } };
    found.take(Event::Failed(failure.clone()));
    found.take(Event::Failed(failure));
    assert_eq!(found.failures.len(), 1);
}

/// Each call that is made has words of its own for its failure.
#[test]
fn every_failure_means_something() {
    let calls = [
        "dlopen",
        "C_Initialize",
        "C_GetInfo",
        "C_GetSlotList",
        "C_GetSlotInfo",
        "C_GetTokenInfo",
        "C_GetMechanismList",
        "C_GetMechanismInfo",
        "C_OpenSession",
        "C_GetSessionInfo",
        "C_CloseSession",
        "C_Login",
        "C_FindObjects",
        "C_GetAttributeValue",
        "C_Sign",
        "C_Finalize",
    ];
    for function in calls {
        let of = |end| meaning(&Failure { step: Step::new(function), end });
        let returned = of(End::Returned { code: "CKR_GENERAL_ERROR".to_owned(), class: "unspecific".to_owned() });
        assert_ne!(returned, "not known", "{function}");
        assert!(of(End::Crashed { how: String::new() }).contains("end the process"), "{function}");
        assert!(of(End::Hung { millis: 1 }).contains("watchdog"), "{function}");
    }
}
