//! Takes a key in that is on an HSM already.

use hallmark_core::{
    client::{Client, Custody},
    error::{Error, Reason},
    key::{Alg, ClientName, HsmName, KeyId, KeyLine, KeyRecord, KeyState, Kid, Origin, PublicPart},
    known_keys, lifecycle,
    policy::{Act, Caller},
    ports::{ChangeState, HsmObject, KeyChange},
    public_key::PublicKey,
};
use uuid::Uuid;

use super::{
    Changed, Keys,
    change::{Author, Begun, check_request_id},
    no_such_client,
    proof::not_taken_in,
    store_error,
};
use crate::pool::Pool;

/// Which object on the HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectRef {
    CkaId(Vec<u8>),
    Label(String),
}

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct AdoptRequest {
    pub request_id: String,
    pub reason: String,
    pub client: ClientName,
    /// May be left out where the client has one that the key suits.
    pub alg: Option<Alg>,
    /// May be left out where the client has one.
    pub hsm: Option<HsmName>,
    pub object: ObjectRef,
    /// The one that it is registered with elsewhere; else its thumbprint.
    pub kid: Option<Kid>,
}

impl Keys {
    /// Takes a key pair in that no record knows: as the standby of its line, or as the first key of one that never had any.
    pub async fn adopt(&self, caller: &Caller, request: AdoptRequest) -> Result<Changed, Error> {
        self.authorise(caller, Act::Adopt.role(false))?;
        check_request_id(&request.request_id)?;
        let registered = self.context.registry.load_full();
        let client = registered.clients.get(&request.client).cloned().ok_or_else(|| no_such_client(&request.client))?;
        let hsm = choose_hsm(&client, request.hsm.as_ref())?;
        let text = format!("adopt {} {hsm} {:?} {:?} {:?}", client.name, request.alg, request.object, request.kid);
        let change = self.new_change(caller, client.name.clone(), &request.request_id, &request.reason, text);
        let this = self.clone();
        let work = async move { this.adopt_once(&client, &hsm, &request, change).await };
        let changed = tokio::spawn(work).await.map_err(Error::internal)?;
        self.rules.wake.notify_one();
        changed
    }

    async fn adopt_once(
        &self,
        client: &Client,
        hsm: &HsmName,
        request: &AdoptRequest,
        change: KeyChange,
    ) -> Result<Changed, Error> {
        let who = change.operator.clone();
        let change = match self.begin(change).await? {
            Begun::Go(change) => change,
            Begun::Done(changed) => return Ok(changed),
        };
        self.reload().await?;
        let author = Author { who: &who, change: &change.id, reason: &change.reason };
        let adopted = self.take_in(client, hsm, request, &author).await;
        let (state, keys) = match &adopted {
            Ok(key) => (ChangeState::Applied, vec![*key]),
            Err(_) => (ChangeState::Failed, Vec::new()),
        };
        let ended = self.context.keyring.store().end_change(&change.id, state, &keys).await.map_err(store_error);
        adopted?;
        ended?;
        self.reload().await?;
        let mut changed = self.changed(KeyChange { state, keys, ..change });
        changed.advice = changed.keys.iter().filter_map(advice).collect();
        Ok(changed)
    }

    async fn take_in(
        &self,
        client: &Client,
        hsm: &HsmName,
        request: &AdoptRequest,
        author: &Author<'_>,
    ) -> Result<KeyId, Error> {
        let pool = self.pool(hsm)?;
        let object = find(&pool.list().await?, &request.object)?;
        let public = object.public.clone().ok_or_else(|| incomplete(&object))?;
        refuse_known(&public)?;
        let line = choose_line(client, hsm, request.alg, &public)?;
        let _one = self.births.lock(&line).await;
        let kid = request.kid.clone().unwrap_or_else(|| public.thumbprint());
        let mut record = KeyRecord {
            cka_id: object.cka_id,
            label: object.label,
            public: Some(PublicPart { kid, key: public }),
            origin: Origin::Adopted,
            ..KeyRecord::of_line(KeyId(Uuid::new_v4()), &line, self.now())
        };
        if let Some(known) = self.known(&record, &line)? {
            return Ok(known);
        }
        let (custody, attestation) = self.custody_of(pool, &record, client.custody).await?;
        record.attestation = attestation;
        if custody == Custody::Imported {
            record.origin = Origin::Imported;
        }
        self.prove(pool, &record, author.who).await?;
        self.audited(author, "adopt", &record.id.to_string(), async {
            let born = self.join(&line, record)?;
            self.context.keyring.store().apply(std::slice::from_ref(&born), &[]).await.map_err(store_error)?;
            self.looks.outdate(hsm);
            Ok(born.id)
        })
        .await
    }

    async fn custody_of(
        &self,
        pool: &Pool,
        record: &KeyRecord,
        floor: Custody,
    ) -> Result<(Custody, Vec<Vec<u8>>), Error> {
        let weak = |why: &str| Error::new(Reason::CustodyTooWeak, format!("the key is not taken in: {why}"));
        let (custody, why, attestation) = self.judged(pool, record).await.map_err(not_taken_in)?;
        let why = why.unwrap_or_default();
        match custody.ok_or_else(|| weak(&why))? {
            custody if custody <= floor => Ok((custody, attestation)),
            Custody::Imported => Err(weak(
                "it was not made on this HSM, and the client's `custody` asks for that; `custody = \"imported\"` lets it in, for ever",
            )),
            _ => Err(weak(&format!("the client's `custody` asks for an attestation: {why}"))),
        }
    }

    /// As the standby of its line, or as its first key.
    fn join(&self, line: &KeyLine, record: KeyRecord) -> Result<KeyRecord, Error> {
        let keys = self.context.keyring.keys().clone();
        let id = [record.id];
        let changes = if keys.has_lived(line) {
            lifecycle::establish(&[], &[], &id)
        } else {
            lifecycle::establish(keys.of(&line.client), &id, &[])
        };
        let change = changes.first().ok_or_else(|| Error::internal("an adopted key without a place"))?;
        lifecycle::apply(&record, change, self.now())
    }

    /// The record where this key was taken in for this line before; an error where it is another's.
    fn known(&self, new: &KeyRecord, line: &KeyLine) -> Result<Option<KeyId>, Error> {
        let Some(known) = self.on_record(new) else { return Ok(None) };
        let taken_in = matches!(known.origin, Origin::Adopted | Origin::Imported) && known.public == new.public;
        if taken_in && known.line().as_ref() == Some(line) && known.cka_id == new.cka_id && is_alive(&known) {
            return Ok(Some(known.id));
        }
        Err(already(&known))
    }

    /// A record that has the `CKA_ID`, the key or the `kid` of `new`.
    pub(super) fn on_record(&self, new: &KeyRecord) -> Option<KeyRecord> {
        let (keys, public) = (self.context.keyring.keys(), new.public.as_ref());
        let same = |record: &&KeyRecord| {
            (record.hsm == new.hsm && record.cka_id == new.cka_id && record.state != KeyState::Destroyed)
                || record
                    .public
                    .as_ref()
                    .zip(public)
                    .is_some_and(|(a, b)| a.key.spki() == b.key.spki() || a.kid == b.kid)
        };
        keys.records.iter().find(same).cloned()
    }
}

pub(super) fn already(known: &KeyRecord) -> Error {
    let of = known.line().map_or_else(|| "Hallmark itself".to_owned(), |line| line.to_string());
    let text =
        format!("this key, its CKA_ID or its kid is on record already: key {} of {of}, {}", known.id, known.state);
    Error::new(Reason::AlreadyExists, text)
}

fn is_alive(record: &KeyRecord) -> bool {
    !matches!(record.state, KeyState::Retired | KeyState::Compromised | KeyState::Destroyed)
}

fn choose_hsm(client: &Client, asked: Option<&HsmName>) -> Result<HsmName, Error> {
    let names = || client.hsms.iter().map(HsmName::as_str).collect::<Vec<_>>().join(", ");
    match (asked, client.hsms.as_slice()) {
        (Some(hsm), of_client) if of_client.contains(hsm) => Ok(hsm.clone()),
        (Some(hsm), _) => {
            let text = format!("client `{}` has no keys on HSM `{hsm}`; it has: {}", client.name, names());
            Err(Error::new(Reason::InvalidRequest, text))
        }
        (None, [hsm]) => Ok(hsm.clone()),
        (None, _) => {
            let text = format!("client `{}` has several HSMs, say which: {}", client.name, names());
            Err(Error::new(Reason::InvalidRequest, text))
        }
    }
}

fn choose_line(client: &Client, hsm: &HsmName, asked: Option<Alg>, key: &PublicKey) -> Result<KeyLine, Error> {
    let suits = |alg: &Alg| key.suits(*alg) && asked.is_none_or(|asked| asked == *alg);
    let algs: Vec<_> = client.keys.iter().map(|spec| spec.alg).filter(suits).collect();
    match algs.as_slice() {
        [alg] => Ok(KeyLine { client: client.name.clone(), alg: *alg, hsm: hsm.clone() }),
        [] => {
            let text = match asked {
                Some(alg) => format!("the key can't do {alg}, or client `{}` has no such key line", client.name),
                None => format!("client `{}` has no key line whose algorithm this key can do", client.name),
            };
            Err(Error::new(Reason::AlgNotConfigured, text))
        }
        several => {
            let names: Vec<_> = several.iter().map(|alg| alg.as_str()).collect();
            let text = format!("the key suits several lines of the client, say which: {}", names.join(", "));
            Err(Error::new(Reason::InvalidRequest, text))
        }
    }
}

/// Exactly one pair, and a complete one.
pub(super) fn find(objects: &[HsmObject], wanted: &ObjectRef) -> Result<HsmObject, Error> {
    let matches = |object: &&HsmObject| match wanted {
        ObjectRef::CkaId(id) => object.cka_id == *id,
        ObjectRef::Label(label) => object.label == *label,
    };
    let mut found = objects.iter().filter(matches);
    match (found.next(), found.next()) {
        (Some(object), None) if object.has_private && object.public.is_some() => Ok(object.clone()),
        (Some(object), None) => Err(incomplete(object)),
        (Some(_), Some(_)) => Err(several(objects.iter().filter(matches), wanted)),
        (None, _) => {
            Err(Error::new(Reason::KeyAbsent, "no key pair on the HSM matches; `hallmark keys list` shows strays"))
        }
    }
}

/// Nothing is guessed: what stands under one name is shown, with the name that tells it apart.
fn several<'a>(found: impl Iterator<Item = &'a HsmObject>, wanted: &ObjectRef) -> Error {
    let part = |object: &HsmObject| match (object.has_private, object.public.is_some()) {
        (true, true) => "a pair",
        (true, false) => "a private object alone",
        _ => "a public object alone",
    };
    let (shown, hint): (Vec<_>, _) = match wanted {
        ObjectRef::CkaId(_) => (
            found.map(|object| format!("`{}` ({})", object.label, part(object))).collect(),
            "name a pair by its label, or take away what does not belong there",
        ),
        ObjectRef::Label(_) => (
            found.map(|object| format!("`{}` ({})", hex(&object.cka_id), part(object))).collect(),
            "name one by its CKA_ID",
        ),
    };
    let text = format!("several objects on the HSM match: {}; {hint}", shown.join(", "));
    Error::new(Reason::InvalidRequest, text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whoever read that page can sign with it.
pub(super) fn refuse_known(key: &PublicKey) -> Result<(), Error> {
    let Some(origin) = known_keys::known(key) else { return Ok(()) };
    let text =
        format!("the key is not taken in: its private half is known to everybody, from {origin}; make a new one");
    Err(Error::new(Reason::CustodyTooWeak, text))
}

pub(super) fn incomplete(object: &HsmObject) -> Error {
    let what = if object.has_private { "public object of a kind that Hallmark can use" } else { "private object" };
    Error::new(Reason::KeyAbsent, format!("the key pair is not complete: it has no {what}"))
}

fn advice(record: &KeyRecord) -> Option<String> {
    let imported = record.origin == Origin::Imported;
    imported.then(|| "the key existed outside an HSM once, and carries that mark for ever: rotate it soon".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_from_a_tutorial_is_refused() {
        // RFC 8037 appendix A.1.
        let x = [
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
            0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ];
        let refused = refuse_known(&PublicKey::from_ed25519(&x).unwrap()).unwrap_err();
        assert_eq!(refused.reason, Reason::CustodyTooWeak);
        assert!(refused.message.contains("RFC 8037"), "{refused}");
        assert!(refuse_known(&PublicKey::from_ed25519(&[7; 32]).unwrap()).is_ok());
    }
}
