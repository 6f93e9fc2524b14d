//! Certificates of clients' keys: asked for, made, installed.

use std::time::Duration;

use hallmark_core::{
    assertion::SigningInput,
    certificate::{Certificate, Validity, chain, request},
    client::Client,
    error::{Error, Reason},
    key::{ClientName, KeyId, KeyRecord, KeyState},
    policy::{Act, Caller},
    ports::{ChangeState, KeyChange, RecordUpdate},
    profile::Binding,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{
    Changed, Keys, approval,
    change::{Author, Begun, check_request_id},
    choice::{Chosen, KeyChoice, check_alive},
    store_error,
};

/// Whose certificate it is to be, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedNames {
    /// RFC 4514; `None`: the client's name.
    pub subject: Option<String>,
    pub san_uris: Vec<String>,
    pub san_dns: Vec<String>,
}

/// An operator asks for a certificate.
#[derive(Clone, Debug)]
pub struct CsrRequest {
    pub request_id: String,
    pub reason: String,
    pub key: KeyChoice,
    pub names: WantedNames,
}

/// An operator brings a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstallRequest {
    pub request_id: String,
    pub reason: String,
    /// Without a `kid`: the key that the leaf is for.
    pub key: KeyChoice,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// In place of a certificate that the authorization server knows and assertions show.
    pub force: bool,
}

/// An operator wants a certificate that signs itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SelfSignRequest {
    pub request_id: String,
    pub reason: String,
    pub key: KeyChoice,
    pub names: WantedNames,
    pub lifetime: Duration,
    /// In place of one that assertions are signed with now.
    pub force: bool,
}

/// A key, and the certificate that it is to have.
pub(super) struct Ready {
    chosen: Chosen,
    wanted: Wanted,
}

/// Where a certificate comes from.
enum Wanted {
    Chain { chain: Vec<Vec<u8>>, force: bool },
    SelfSigned { input: SigningInput, force: bool },
}

impl Keys {
    /// A PKCS#10 request, DER, and the key that it is for.
    pub async fn request_certificate(
        &self,
        caller: &Caller,
        request: CsrRequest,
    ) -> Result<(Vec<u8>, KeyRecord), Error> {
        let CsrRequest { request_id, reason, key, names } = request;
        let chosen = self.choose(caller, &key, Act::RequestCertificate.role(false))?;
        let input = request::request(&names.parse(&key.client)?, &chosen.public.key)?;
        let who = caller.identity.to_string();
        let author = Author { who: &who, change: &request_id, reason: &reason };
        let signed = self.sign_for_operator(&chosen, input, &author, "").await?;
        let der = request::finish(&signed.to_be_signed, chosen.record.alg, &signed.signature)?;
        Ok((der, chosen.record))
    }

    /// Puts a chain beside its key.
    pub async fn install_certificate(&self, caller: &Caller, request: InstallRequest) -> Result<Changed, Error> {
        let (chosen, mark) = self.check_install(caller, &request)?;
        let InstallRequest { request_id, reason, key, force, .. } = &request;
        let text = format!("install-certificate {} {mark}", chosen.public.kid);
        let change = self.new_change(caller, key.client.clone(), request_id, reason, text);
        if self.must_wait(Act::InstallCertificate, *force) {
            return self.propose(caller, change, approval::Wanted::Install(request)).await;
        }
        let InstallRequest { chain, force, .. } = request;
        self.certify(chosen, change, Wanted::Chain { chain, force }).await
    }

    /// The key that it is for, and the chain's mark, if the caller may ask for it and the chain is good.
    pub(super) fn check_install(&self, caller: &Caller, request: &InstallRequest) -> Result<(Chosen, String), Error> {
        let InstallRequest { key, chain, force, .. } = request;
        self.authorise(caller, Act::InstallCertificate.role(*force))?;
        let chosen = self.of_leaf(caller, key, chain)?;
        let shown = chain::check(chain, &chosen.public.key, self.now())?;
        Ok((chosen, shown.thumbprints.x5t_s256()))
    }

    /// What an approved installation takes.
    pub(super) fn ready_to_install(&self, caller: &Caller, request: InstallRequest) -> Result<Ready, Error> {
        let (chosen, _) = self.check_install(caller, &request)?;
        let InstallRequest { chain, force, .. } = request;
        Ok(Ready { chosen, wanted: Wanted::Chain { chain, force } })
    }

    /// Makes a certificate that the key signs itself, and installs it.
    pub async fn self_sign_certificate(&self, caller: &Caller, request: SelfSignRequest) -> Result<Changed, Error> {
        let SelfSignRequest { request_id, reason, key, names, lifetime, force } = &request;
        let chosen = self.choose(caller, key, Act::SelfSign.role(*force))?;
        let text = format!("self-sign {} {} {names:?}", chosen.public.kid, lifetime.as_secs());
        let change = self.new_change(caller, key.client.clone(), request_id, reason, text);
        if self.must_wait(Act::SelfSign, *force) {
            return self.propose(caller, change, approval::Wanted::SelfSign(request)).await;
        }
        let Ready { chosen, wanted } = self.ready_to_self_sign(caller, request)?;
        self.certify(chosen, change, wanted).await
    }

    /// What making one takes.
    pub(super) fn ready_to_self_sign(&self, caller: &Caller, request: SelfSignRequest) -> Result<Ready, Error> {
        let SelfSignRequest { key, names, lifetime, force, .. } = request;
        let chosen = self.choose(caller, &key, Act::SelfSign.role(force))?;
        let names = names.parse(&key.client)?;
        let input = request::self_signed(names, &chosen.public.key, chosen.record.alg, lifetime)?;
        Ok(Ready { chosen, wanted: Wanted::SelfSigned { input, force } })
    }

    /// Carries out what is on record as running; one that could not be made ready has failed.
    pub(super) async fn certify_ready(&self, ready: Result<Ready, Error>, change: KeyChange) -> Result<Changed, Error> {
        match ready {
            Ok(Ready { chosen, wanted }) => self.certify_begun(chosen, change, wanted).await,
            Err(error) => {
                let store = self.context.keyring.store();
                store.end_change(&change.id, ChangeState::Failed, &change.keys).await.map_err(store_error)?;
                Err(error)
            }
        }
    }

    /// Whether a key that signs, or will, needs a certificate and has none that holds now.
    pub fn lacks_certificate(&self, record: &KeyRecord) -> bool {
        let registered = self.context.registry.load();
        let client = record.client.as_ref().and_then(|name| registered.clients.get(name));
        let is_needed = matches!(record.state, KeyState::Active | KeyState::PreActive);
        is_needed
            && client.is_some_and(|client| client.makes.wants_certificate())
            && !Validity::of_leaf(&record.certificate_chain).is_some_and(|validity| validity.holds(self.now()))
    }

    /// Installs what is wanted, once for each `request_id`. It goes on where the caller hangs up.
    async fn certify(&self, chosen: Chosen, change: KeyChange, wanted: Wanted) -> Result<Changed, Error> {
        check_request_id(&change.request_id)?;
        let this = self.clone();
        let work = async move { this.certify_once(chosen, change, wanted).await };
        let changed = tokio::spawn(work).await.map_err(Error::internal)?;
        self.rules.wake.notify_one();
        changed
    }

    async fn certify_once(&self, chosen: Chosen, change: KeyChange, wanted: Wanted) -> Result<Changed, Error> {
        let who = change.operator.clone();
        match self.begin(change).await? {
            Begun::Go(change) => self.certify_begun(chosen, KeyChange { operator: who, ..change }, wanted).await,
            Begun::Done(changed) => Ok(self.with_advice(changed, &chosen.client)),
        }
    }

    async fn certify_begun(&self, chosen: Chosen, change: KeyChange, wanted: Wanted) -> Result<Changed, Error> {
        let who = change.operator.clone();
        let author = Author { who: &who, change: &change.id, reason: &change.reason };
        let made = self.make_and_write(&chosen, wanted, &author).await;
        let state = if made.is_ok() { ChangeState::Applied } else { ChangeState::Failed };
        let keys = vec![chosen.record.id];
        let ended = self.context.keyring.store().end_change(&change.id, state, &keys).await.map_err(store_error);
        made?;
        ended?;
        self.reload().await?;
        Ok(self.with_advice(self.changed(KeyChange { state, keys, ..change }), &chosen.client))
    }

    async fn make_and_write(&self, chosen: &Chosen, wanted: Wanted, author: &Author<'_>) -> Result<(), Error> {
        let chain = match wanted {
            Wanted::Chain { chain, force } => {
                if !force && !is_renewal(chosen, &chain) {
                    check_replaceable(chosen, self.now())?;
                }
                chain
            }
            Wanted::SelfSigned { input, force } => {
                if !force {
                    check_replaceable(chosen, self.now())?;
                }
                let signed = self.sign_for_operator(chosen, input, author, "").await?;
                let der = request::finish(&signed.to_be_signed, chosen.record.alg, &signed.signature)?;
                // Nor does what an HSM signed go out unseen.
                chain::check(std::slice::from_ref(&der), &chosen.public.key, self.now())?;
                vec![der]
            }
        };
        self.write_chain(chosen.record.id, chain, author).await
    }

    /// Written over the record as it is now: what it was when the key was chosen may be old.
    async fn write_chain(&self, key: KeyId, chain: Vec<Vec<u8>>, author: &Author<'_>) -> Result<(), Error> {
        self.reload().await?;
        let record = self.context.keyring.keys().find(key).cloned();
        let record = record.ok_or_else(|| Error::internal("a key without a record"))?;
        check_alive(&record)?;
        let mut next = record;
        // What the authorization server has is another certificate, for all that anyone has confirmed.
        next.times.registered = None;
        let update = RecordUpdate { from: next.state, record: next, chain: Some(chain) };
        self.audited(author, "install-certificate", &key.to_string(), async {
            self.context.keyring.store().apply(&[], &[update]).await.map_err(store_error)
        })
        .await
    }

    /// Adds when it holds, and what else there is to do.
    fn with_advice(&self, mut changed: Changed, client: &Client) -> Changed {
        let active = changed.keys.iter().any(|record| record.state == KeyState::Active);
        let policies = self.rules.policies(&self.context.registry);
        changed.in_force_everywhere_at = active.then(|| self.now().plus(policies.of(&client.name).store_lease));
        changed.advice = changed.keys.iter().flat_map(|record| advice(client, record)).collect();
        changed
    }
}

impl WantedNames {
    fn parse(&self, client: &ClientName) -> Result<request::Names, Error> {
        let subject = self.subject.clone().unwrap_or_else(|| format!("CN={client}"));
        request::Names::new(&subject, &self.san_uris, &self.san_dns)
    }
}

/// Whether a server that trusts the CA, rather than the certificate, takes the new one as it took the old.
fn is_renewal(chosen: &Chosen, chain: &[Vec<u8>]) -> bool {
    let leaf = |chain: &[Vec<u8>]| chain.first().and_then(|leaf| Certificate::parse(leaf).ok());
    let (Some(old), Some(new)) = (leaf(&chosen.record.certificate_chain), leaf(chain)) else { return false };
    let same_names =
        (old.subject, old.issuer, old.san_uris, old.san_dns) == (new.subject, new.issuer, new.san_uris, new.san_dns);
    chosen.client.profile.binding == Binding::CertChain && same_names
}

/// A new certificate can't be known to anyone at the moment it is made.
fn check_replaceable(chosen: &Chosen, now: Timestamp) -> Result<(), Error> {
    let signs = chosen.record.state == KeyState::Active && chosen.client.makes.wants_certificate();
    let holds = Validity::of_leaf(&chosen.record.certificate_chain).is_some_and(|validity| validity.holds(now));
    if signs && holds && chosen.client.profile.binding != Binding::Jwks {
        let text = format!(
            "key `{}` signs with a certificate that its authorization server knows, and it would not know the new one; make \
             one for the standby (`--standby`), register it, and rotate; `--force` goes through",
            chosen.public.kid
        );
        return Err(Error::new(Reason::GateShut, text));
    }
    Ok(())
}

fn advice(client: &Client, record: &KeyRecord) -> Vec<String> {
    let kid = record.public.as_ref().map_or("?", |public| public.kid.as_str());
    let mut advice = Vec::new();
    let shown = record.certificate_chain.first().and_then(|leaf| Certificate::parse(leaf).ok());
    if let Some(shown) = shown {
        let thumbprint = shown.thumbprints.x5t_s256();
        advice.push(format!("the leaf is `{}`, x5t#S256 {thumbprint}", shown.subject.escape_debug()));
    }
    let by_hand = client.profile.binding != Binding::Jwks;
    if !client.makes.wants_certificate() {
        advice.push("assertions of this client show no certificate; its JWKS does".to_owned());
    } else if record.state == KeyState::Active {
        advice.push("assertions show it from now on: its authorization server must know it".to_owned());
    } else if by_hand {
        advice.push(format!(
            "once the authorization server has it: hallmark keys confirm {kid} --registered --reason TEXT"
        ));
    }
    advice
}
