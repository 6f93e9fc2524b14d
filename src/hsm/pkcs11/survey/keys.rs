//! What a login shows: which keys are there, how they are protected, and whether they sign. Nothing is made or changed.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use hallmark_core::{
    client::Custody,
    key::Alg,
    ports::{Hsm, HsmFault, HsmObject, HsmSession, KeyRef, PinLedger},
    public_key::{Numbers, PublicKey},
};

use super::{
    super::{
        binding::hex,
        module::Module,
        token::{Pkcs11Token, TokenSelector},
    },
    facts::{Event, FoundKey, SignedWith, Step},
    walk::{self, Walker},
};
use crate::hsm::pin::PinSource;

/// Whom to log in to, and with what.
pub struct LoginOrder {
    pub slot: u64,
    pub selector: TokenSelector,
    pub pin: PinSource,
    /// Says whether this PIN was tried before.
    pub ledger: Arc<dyn PinLedger>,
}

/// Logs in by Hallmark's own way, once, and looks at the keys; then ends the library. Without an order it only ends it.
///
/// The first key of each kind signs once with each of its algorithms. What is signed is no assertion and no input of any
/// other protocol.
pub fn log_in(module: Arc<Module>, order: Option<LoginOrder>, skip: &[Step], tell: &mut dyn FnMut(Event)) {
    if let Some(order) = order {
        let mut walker = Walker { skip, tell };
        look(&mut walker, module.clone(), order);
    }
    walk::finalize(&module, skip, tell);
}

fn look(walker: &mut Walker<'_>, module: Arc<Module>, order: LoginOrder) {
    let LoginOrder { slot, selector, pin, ledger } = order;
    let token = Pkcs11Token::new(module, selector, pin, ledger);
    let Some(facts) = walker.step(&Step::new("C_Login").at(slot), || token.connect()) else { return };
    (walker.tell)(Event::LoggedIn(slot));
    let open = || token.open_session();
    let Some(mut session) = walker.step(&Step::new("C_OpenSession").about("after the login").at(slot), open) else {
        return;
    };
    let listed = walker.step(&Step::new("C_FindObjects").at(slot), || session.list());
    let mut tried = BTreeSet::new();
    for object in listed.unwrap_or_default().into_iter().take(MOST_KEYS) {
        look_at(walker, slot, &mut session, &object, &facts.algs, &mut tried);
    }
}

fn look_at(
    walker: &mut Walker<'_>,
    slot: u64,
    session: &mut dyn HsmSession,
    object: &HsmObject,
    algs: &[Alg],
    tried: &mut BTreeSet<String>,
) {
    let (id, kind) = (hex(&object.cka_id), object.public.as_ref().map(kind));
    let mut key = FoundKey {
        cka_id: id.clone(),
        label: object.label.clone(),
        kind: kind.clone(),
        has_private: object.has_private,
        ..FoundKey::default()
    };
    let (Some(public), Some(kind), true) = (&object.public, kind, object.has_private) else {
        return (walker.tell)(Event::Key(key));
    };
    // The least that Hallmark takes; what the key is worth is looked at apart from it.
    let named = KeyRef { cka_id: &object.cka_id, label: &object.label, public, custody: Custody::Imported };
    let step = Step::new("C_GetAttributeValue").about(format!("key {id}")).at(slot);
    if let Some(evidence) = walker.step(&step, || session.evidence(&named)) {
        key.sensitive = evidence.attributes.sensitive;
        key.extractable = evidence.attributes.extractable;
        key.custody = Some(evidence.custody().map(|custody| custody.as_str().to_owned()).map_err(str::to_owned));
    }
    let is_refused = matches!(key.custody, Some(Err(_)));
    (walker.tell)(Event::Key(key));
    // One key of a kind shows what the token does with all of them.
    if is_refused || !tried.insert(kind) {
        return;
    }
    for alg in Alg::ALL.into_iter().filter(|alg| public.suits(*alg) && algs.contains(alg)) {
        let step = Step::new("C_Sign").about(format!("{alg} with key {id}")).at(slot);
        if let Some(signed) = walker.step(&step, || sign(session, &named, alg)) {
            (walker.tell)(Event::Signed(id.clone(), signed));
        }
    }
}

fn sign(session: &mut dyn HsmSession, key: &KeyRef<'_>, alg: Alg) -> Result<SignedWith, HsmFault> {
    let begun = Instant::now();
    let signature = session.sign(key, alg, MESSAGE)?;
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let verifies = key.public.verifier(alg).is_ok_and(|verifier| verifier.verifies(MESSAGE, &signature));
    Ok(SignedWith { alg: alg.to_string(), verifies, micros })
}

/// Such as `RSA-2048`.
fn kind(key: &PublicKey) -> String {
    match key.numbers() {
        // Without leading zero bytes.
        Numbers::Rsa { n, .. } => {
            format!("RSA-{}", n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize))
        }
        Numbers::Ec { curve, .. } => curve.name().to_owned(),
        Numbers::Ed25519 { .. } => "Ed25519".to_owned(),
    }
}

/// No JOSE input, and none of another protocol: it begins as the proofs of possession do.
const MESSAGE: &[u8] = b"hallmark-possession-v1\0probe\0";
/// A token with more is not looked through.
const MOST_KEYS: usize = 64;
