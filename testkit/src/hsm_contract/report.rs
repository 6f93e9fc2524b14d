//! What a token can do, as found by doing it: a row of `docs/hsm-support.md`.

use std::time::{Duration, Instant};

use hallmark_core::{
    key::{Alg, KeySpec},
    ports::{HsmSession, NewKey},
};

use super::{
    Bare, Subject, connected_with_facts,
    sample::{Key, MESSAGE, fresh_names},
};

/// What was found. Texts are the same each time, save for [`Report::speed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What it can make keys for, and sign with.
    pub algs: String,
    /// RSA keys of which sizes it makes.
    pub rsa: String,
    /// How many workers may have a session each.
    pub sessions: String,
    /// What Hallmark does itself, for the token does not.
    pub fallbacks: String,
    /// What else the suite could do with it, and what not.
    pub gaps: String,
    /// Signatures with RS256, of those that a loop around the bare module makes in the same time; `None` where there is
    /// no such loop.
    pub speed: Option<f64>,
}

/// Tries a token, after [`super::run`] has shown that what it says of itself is true.
pub fn report(subject: &dyn Subject) -> Report {
    let (hsm, facts) = connected_with_facts(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::RS256);
    let rsa = facts.algs.contains(&Alg::RS256).then(|| [2048, 3072].map(|bits| rsa(session.as_mut(), bits)).join(", "));
    let report = Report {
        algs: facts.algs.iter().map(|alg| alg.to_string()).collect::<Vec<_>>().join(" "),
        rsa: rsa.unwrap_or_else(|| "none".into()),
        sessions: facts.max_sessions.map_or_else(|| "no limit told".into(), |most| format!("{most} for workers")),
        fallbacks: subject.fallbacks(),
        gaps: gaps(subject),
        speed: subject
            .bare(&key.cka_id)
            .map(|bare| speed(|| drop(session.sign(&key.as_ref(), key.alg, MESSAGE).unwrap()), bare)),
    };
    drop((session, hsm));
    subject.clear();
    report
}

fn rsa(session: &mut dyn HsmSession, bits: u32) -> String {
    let (cka_id, label) = fresh_names();
    let spec = KeySpec { alg: Alg::RS256, rsa_bits: bits };
    match session.generate(&NewKey { cka_id: &cka_id, label: &label, spec }) {
        Ok(_) => bits.to_string(),
        Err(refused) => format!("not {bits} ({:?})", refused.class),
    }
}

fn gaps(subject: &dyn Subject) -> String {
    let tried = [
        (subject.losses().is_some(), "lost sessions and logins"),
        (subject.plants(), "keys of other programs"),
        (subject.importer().is_some(), "import"),
    ];
    let missing: Vec<_> = tried.iter().filter(|(tried, _)| !tried).map(|(_, what)| *what).collect();
    if missing.is_empty() { "none".into() } else { missing.join(", ") }
}

/// How many signatures `ours` makes in the time that `bare` takes for one. In turns, and the best of them, so that it
/// does not matter what else the machine does.
pub fn speed(mut ours: impl FnMut(), mut bare: Bare<'_>) -> f64 {
    let turns = (0..TURNS).map(|_| {
        let theirs = per_second(|| bare(MESSAGE));
        let ours = per_second(&mut ours);
        eprintln!("report: {ours:.0} signatures a second, the bare module {theirs:.0}");
        ours / theirs
    });
    turns.fold(0.0, f64::max)
}

fn per_second(mut sign: impl FnMut()) -> f64 {
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < TURN {
        sign();
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}

const TURNS: usize = 7;
const TURN: Duration = Duration::from_millis(80);
