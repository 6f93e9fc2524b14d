//! Changes that need two operators: one proposes, another approves.

use std::{sync::Arc, time::Duration};

use hallmark_core::{
    error::{Error, Reason},
    key::{ClientName, KeyId, KeyRecord, Kid},
    lifecycle::{Change, Step},
    policy::{Act, Caller, Credential, Guarded, Identity, Roles},
    ports::{ApprovalStore, BegunChange, ChangeState, Decided, Decision, KeyChange, Proposal, Proposed},
};
use serde::{Deserialize, Serialize};

use super::{
    AlterRequest, Alteration, Changed, InstallRequest, Keys, RegistrationRequest, SelfSignRequest,
    change::{Author, check_request_id},
    store_error,
};

/// Which changes wait for a second operator, and where they wait.
#[derive(Clone)]
pub struct Approvals {
    pub store: Arc<dyn ApprovalStore>,
    pub require: Vec<Guarded>,
    /// After how long a proposal is over.
    pub patience: Duration,
}

impl std::fmt::Debug for Approvals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Approvals")
    }
}

/// All that it takes to carry out a change later, perhaps on another replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "request", rename_all = "kebab-case")]
pub(super) enum Wanted {
    Alter(AlterRequest),
    Install(InstallRequest),
    SelfSign(SelfSignRequest),
    Register(RegistrationRequest),
}

impl Wanted {
    fn act(&self) -> Act {
        match self {
            Self::Alter(request) => request.what.act(),
            Self::Install(_) => Act::InstallCertificate,
            Self::SelfSign(_) => Act::SelfSign,
            Self::Register(_) => Act::Register,
        }
    }

    fn force(&self) -> bool {
        match self {
            Self::Alter(request) => request.force,
            Self::Install(request) => request.force,
            Self::SelfSign(request) => request.force,
            Self::Register(request) => request.force,
        }
    }
}

impl Keys {
    /// With changes that wait for a second operator.
    #[must_use]
    pub fn with_approvals(self, approvals: Approvals) -> Self {
        Self { approvals: Some(Arc::new(approvals)), ..self }
    }

    /// Whether a second operator must agree to it.
    pub(super) fn must_wait(&self, act: Act, force: bool) -> bool {
        let approvals = self.approvals.as_ref();
        approvals.is_some_and(|approvals| approvals.require.iter().any(|guarded| guarded.covers(act, force)))
    }

    /// The changes that wait, and the last of those that waited, the newest first.
    pub async fn proposed(&self, caller: &Caller) -> Result<Vec<Changed>, Error> {
        self.authorise(caller, Act::ListChanges.role(false))?;
        let Some(approvals) = &self.approvals else { return Ok(Vec::new()) };
        let all = approvals.store.all_proposed(MOST).await.map_err(store_error)?;
        Ok(all.into_iter().map(|proposed| self.shown(proposed)).collect())
    }

    /// Keeps what is asked for until another operator approves it. What can't be done now is refused now.
    pub(super) async fn propose(&self, caller: &Caller, change: KeyChange, wanted: Wanted) -> Result<Changed, Error> {
        check_request_id(&change.request_id)?;
        let store = self.approval_store()?.clone();
        // What was done can't be planned once more, and asking again is to find it.
        let known = store.all_proposed(MOST).await.map_err(store_error)?;
        let same = |known: &Proposed| {
            (&known.change.request_id, &known.change.request) == (&change.request_id, &change.request)
        };
        if let Some(known) = known.into_iter().find(same) {
            return still_open(&known).map(|()| self.shown(known));
        }
        let plan = self.plan(caller, &wanted)?;
        let change = KeyChange { state: ChangeState::AwaitingApproval, ..change };
        let patience = self.approvals.as_ref().map(|approvals| approvals.patience).unwrap_or_default();
        let credential = caller.credential.mark().to_owned();
        let payload = serde_json::to_string(&wanted).map_err(Error::internal)?;
        let proposal = Proposal { payload, plan, credential, patience };
        let author = Author { who: &change.operator, change: &change.id, reason: &change.reason };
        let begun = self.audited(&author, "propose", &change.request, async {
            store.propose(&change, &proposal).await.map_err(store_error)
        });
        let id = match begun.await? {
            BegunChange::New => change.id,
            BegunChange::Existing(before) if before.request != change.request => {
                let text = "this request_id came before with another request; use a new one";
                return Err(Error::new(Reason::RequestIdReused, text));
            }
            BegunChange::Existing(before) => before.id,
        };
        match store.proposed(&id).await.map_err(store_error)? {
            Some(proposed) => still_open(&proposed).map(|()| self.shown(proposed)),
            None => Err(Error::new(Reason::RequestIdReused, "this request_id came before; use a new one")),
        }
    }

    /// Approves a change of another operator, and carries it out: if the same may still be done, and would do the same.
    pub async fn approve(&self, caller: &Caller, id: &str, reason: &str) -> Result<Changed, Error> {
        self.authorise(caller, Act::Approve.role(false))?;
        let store = self.approval_store()?.clone();
        let proposed = store.proposed(id).await.map_err(store_error)?.ok_or_else(|| no_such_change(id))?;
        let wanted = read(&proposed)?;
        self.authorise(caller, wanted.act().role(wanted.force()))?;
        check_another(caller, &proposed)?;
        let by = caller.identity.to_string();
        let (state, before) = (proposed.change.state, proposed.decision.as_ref());
        let again = before.is_some_and(|before| before.approved && before.by == by);
        match state {
            // Twice is once.
            ChangeState::Applied if again => return Ok(self.shown(proposed)),
            ChangeState::AwaitingApproval => {}
            ChangeState::Failed | ChangeState::Running if again => {}
            _ => still_open(&proposed)?,
        }
        self.check_proposer(&proposed, &wanted)?;
        self.reload().await?;
        self.check_plan(caller, &proposed, &wanted)?;
        let decision = Decision { approved: true, by, reason: reason.to_owned() };
        let (this, caller, id) = (self.clone(), caller.clone(), id.to_owned());
        // Once it is decided nobody else can carry it out: both go on where the caller hangs up.
        let work = async move {
            let taken = this.decide(&id, &proposed, decision).await?;
            this.carry_out(&caller, taken, wanted).await
        };
        let changed = tokio::spawn(work).await.map_err(Error::internal)?;
        self.rules.wake.notify_one();
        changed
    }

    /// Says no to a change, or takes one's own back.
    pub async fn deny(&self, caller: &Caller, id: &str, reason: &str) -> Result<Changed, Error> {
        self.authorise(caller, Act::Deny.role(false))?;
        let store = self.approval_store()?.clone();
        let proposed = store.proposed(id).await.map_err(store_error)?.ok_or_else(|| no_such_change(id))?;
        let by = caller.identity.to_string();
        let denied = proposed.decision.as_ref().is_some_and(|before| !before.approved && before.by == by);
        if proposed.change.state == ChangeState::Denied && denied {
            return Ok(self.shown(proposed));
        }
        let decision = Decision { approved: false, by, reason: reason.to_owned() };
        self.decide(id, &proposed, decision).await.map(|denied| self.shown(denied))
    }

    async fn decide(&self, id: &str, proposed: &Proposed, decision: Decision) -> Result<Proposed, Error> {
        let store = self.approval_store()?.clone();
        let author = Author { who: &decision.by, change: id, reason: &decision.reason };
        let action = if decision.approved { "approve" } else { "deny" };
        let subject = format!("{} of {}", proposed.change.request, proposed.change.operator);
        let mut running = None;
        let decided = async {
            match store.decide(id, &decision).await.map_err(store_error)? {
                Decided::Taken(taken) => {
                    running = decision.approved.then(|| taken.change.keys.clone());
                    Ok(taken)
                }
                Decided::Before(before) => still_open(&before).and_then(|()| Err(decided_before(&before))),
                Decided::Unknown => Err(no_such_change(id)),
            }
        };
        let decided = self.audited(&author, action, &subject, decided).await;
        if let (Some(keys), Err(_)) = (running, &decided) {
            self.leave_to_be_taken_up(id, &keys).await;
        }
        decided
    }

    /// It was approved, and the audit log could not be written before it began: whoever approved it may do so once more.
    async fn leave_to_be_taken_up(&self, id: &str, keys: &[KeyId]) {
        if let Err(error) = self.context.keyring.store().end_change(id, ChangeState::Failed, keys).await {
            tracing::error!(%error, change = id, "an approved change was not begun, and is on record as running");
        }
    }

    async fn carry_out(&self, caller: &Caller, taken: Proposed, wanted: Wanted) -> Result<Changed, Error> {
        let decision = taken.decision.clone();
        let approved = decision.map(|by| format!("; approved by {}: {}", by.by, by.reason)).unwrap_or_default();
        let reason = format!("{}{approved}", taken.change.reason);
        let change = KeyChange { reason: reason.clone(), ..taken.change.clone() };
        match wanted {
            Wanted::Alter(request) => {
                let request = AlterRequest { reason, ..request };
                match &request.what {
                    Alteration::Revoke { kid } => self.revoke_begun(kid, change).await,
                    _ => self.alter_begun(&request, change, Some(&taken.plan)).await,
                }
            }
            Wanted::Register(request) => self.record_begun(request, change, Some(&taken.plan)).await,
            Wanted::Install(request) => {
                let ready = self.ready_to_install(caller, request);
                self.certify_ready(ready, change).await
            }
            Wanted::SelfSign(request) => {
                let ready = self.ready_to_self_sign(caller, request);
                self.certify_ready(ready, change).await
            }
        }
    }

    /// What it would do now, a sentence each; or why it can't be done.
    fn plan(&self, caller: &Caller, wanted: &Wanted) -> Result<Vec<String>, Error> {
        match wanted {
            Wanted::Alter(request) => self.plan_alteration(request),
            Wanted::Install(request) => self.plan_installation(caller, request),
            Wanted::SelfSign(request) => self.plan_self_signing(caller, request),
            Wanted::Register(request) => self.plan_registration(request),
        }
    }

    fn plan_alteration(&self, request: &AlterRequest) -> Result<Vec<String>, Error> {
        let client = self.client_for(&request.what)?;
        let (changes, _) = self.ask(request, &client)?;
        let mut plan = self.sentences(&changes, &client);
        let unforced = AlterRequest { force: false, ..request.clone() };
        if let (true, Err(gate)) = (request.force, self.ask(&unforced, &client)) {
            plan.push(format!("{PAST}{}", gate.message));
        }
        Ok(plan)
    }

    /// The keys may have moved since: nobody agreed to what it would do now.
    fn check_plan(&self, caller: &Caller, proposed: &Proposed, wanted: &Wanted) -> Result<(), Error> {
        // What was cut short has done a part of it.
        if proposed.change.state != ChangeState::AwaitingApproval && !proposed.change.keys.is_empty() {
            return Ok(());
        }
        check_same(&proposed.plan, &self.plan(caller, wanted)?)
    }

    /// The same of `changes` that are about to be made: others may have come between the decision and them.
    pub(super) fn check_agreed(&self, agreed: &[String], changes: &[Change], client: &ClientName) -> Result<(), Error> {
        check_same(agreed, &self.sentences(changes, client))
    }

    fn sentences(&self, changes: &[Change], client: &ClientName) -> Vec<String> {
        let records = self.records_of(client);
        changes.iter().filter_map(|change| sentence(change, &records)).collect()
    }

    /// Whoever proposed it may have lost the role since.
    fn check_proposer(&self, proposed: &Proposed, wanted: &Wanted) -> Result<(), Error> {
        let outdated = |why: String| Error::new(Reason::ChangeOutdated, why);
        let identity: Identity = proposed.change.operator.parse().map_err(|_| outdated(GONE.to_owned()))?;
        let roles = Roles { workload: false, operator: true };
        let proposer = Caller { identity, roles, not_after: None, credential: Credential::Socket };
        let role = wanted.act().role(wanted.force());
        self.authorise(&proposer, role).map_err(|error| outdated(format!("{GONE}: {}", error.message)))
    }

    fn approval_store(&self) -> Result<&Arc<dyn ApprovalStore>, Error> {
        let approvals = self.approvals.as_ref();
        approvals.map(|approvals| &approvals.store).ok_or_else(|| Error::internal("no store for approvals"))
    }

    pub(super) fn shown(&self, proposed: Proposed) -> Changed {
        Changed { approval: Some(Box::new(proposed.clone())), ..self.changed(proposed.change) }
    }

    fn with_kid(&self, kid: &Kid) -> String {
        let keys = self.context.keyring.keys();
        let shown =
            keys.by_kid(kid.as_str()).and_then(|record| record.certificate_chain.first().map(|leaf| mark(leaf)));
        shown.map_or_else(|| "none".to_owned(), |mark| format!("the one with x5t#S256 {mark}"))
    }

    fn plan_installation(&self, caller: &Caller, request: &InstallRequest) -> Result<Vec<String>, Error> {
        let (chosen, mark) = self.check_install(caller, request)?;
        let kid = &chosen.public.kid;
        let before = self.with_kid(kid);
        Ok(vec![format!("key `{kid}` gets the certificate with x5t#S256 {mark}, in place of {before}")])
    }

    fn plan_self_signing(&self, caller: &Caller, request: &SelfSignRequest) -> Result<Vec<String>, Error> {
        let chosen = self.choose(caller, &request.key, Act::SelfSign.role(request.force))?;
        let (kid, days) = (&chosen.public.kid, request.lifetime.as_secs() / 86_400);
        let before = self.with_kid(kid);
        Ok(vec![format!("key `{kid}` gets a certificate that it signs itself, for {days} days, in place of {before}")])
    }
}

/// Whether it would do what was agreed to.
pub(super) fn check_same(agreed: &[String], now: &[String]) -> Result<(), Error> {
    // How long a gate has to go yet is another thing each time.
    let fixed =
        |plan: &[String]| -> Vec<String> { plan.iter().filter(|line| !line.starts_with(PAST)).cloned().collect() };
    if fixed(now) == fixed(agreed) {
        return Ok(());
    }
    let text = format!(
        "things are not as they were when this was proposed: it would now do: {}; deny it, and propose again what is meant",
        if now.is_empty() { "nothing".to_owned() } else { now.join("; ") }
    );
    Err(Error::new(Reason::ChangeOutdated, text))
}

fn mark(leaf: &[u8]) -> String {
    let parsed = hallmark_core::certificate::Certificate::parse(leaf);
    parsed.map(|shown| shown.thumbprints.x5t_s256()).unwrap_or_default()
}

/// Neither the same operator, nor whoever has the same key under another name.
fn check_another(caller: &Caller, proposed: &Proposed) -> Result<(), Error> {
    let mark = caller.credential.mark();
    let same_name = caller.identity.to_string() == proposed.change.operator;
    if same_name || (!mark.is_empty() && mark == proposed.credential) {
        let text = "who proposed a change can't approve it, under no name; ask another operator";
        return Err(Error::new(Reason::SameOperator, text));
    }
    Ok(())
}

/// Whether it still waits, runs, or was done.
fn still_open(proposed: &Proposed) -> Result<(), Error> {
    match proposed.change.state {
        ChangeState::AwaitingApproval | ChangeState::Running | ChangeState::Applied => Ok(()),
        ChangeState::Denied | ChangeState::Expired | ChangeState::Failed => Err(decided_before(proposed)),
    }
}

fn decided_before(proposed: &Proposed) -> Error {
    let by = proposed.decision.as_ref().map(|decision| format!(", by {}: {}", decision.by, decision.reason));
    let state = proposed.change.state.as_str();
    let text = format!(
        "the change is {state} already{}; to go on, propose it anew with another request_id",
        by.unwrap_or_default()
    );
    Error::new(Reason::ChangeDecided, text)
}

fn no_such_change(id: &str) -> Error {
    let shown: String = id.chars().take(64).collect();
    Error::new(Reason::ChangeNotFound, format!("no change `{shown}` waits here; `hallmark keys changes` shows all"))
}

fn read(proposed: &Proposed) -> Result<Wanted, Error> {
    serde_json::from_str(&proposed.payload).map_err(|error| {
        let text = "what was proposed can't be read by this version; deny it, and propose it again";
        Error::new(Reason::StoreCorrupt, text).with_detail(error)
    })
}

fn sentence(change: &Change, records: &[KeyRecord]) -> Option<String> {
    let named = |key: &hallmark_core::key::KeyId| {
        let record = records.iter().find(|record| record.id == *key)?;
        let kid = record.public.as_ref().map_or_else(|| record.id.to_string(), |public| public.kid.to_string());
        Some((format!("key `{kid}` of {}", record.line().map_or_else(String::new, |line| line.to_string())), record))
    };
    match &change.step {
        Step::Move { key, to } => named(key).map(|(name, record)| format!("{name} goes from {} to {to}", record.state)),
        Step::Destroy { key } => {
            named(key).map(|(name, record)| format!("{name}, {}, is destroyed on its HSM", record.state))
        }
        Step::Pause { .. } => Some("signing pauses for some seconds, then the line switches".to_owned()),
        Step::Generate { line, .. } => Some(format!("a key of {line} is made")),
    }
}

const GONE: &str = "the operator who proposed it may not do it any more";
/// How the sentence about a shut gate begins.
const PAST: &str = "past a gate: ";
/// Of what waits and what waited.
const MOST: u32 = 200;

#[cfg(test)]
mod tests;
