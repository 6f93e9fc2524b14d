//! An operator writes down what registering a client gave.

use hallmark_core::{
    client::is_client_id,
    error::{Error, Reason},
    key::ClientName,
    policy::{Act, Caller},
    ports::{ChangeState, KeyChange, RegistrationResult},
};
use serde::{Deserialize, Serialize};

use super::{
    Changed, Keys,
    approval::{Wanted, check_same},
    change::{Author, Begun, check_request_id},
    store_error,
};

/// What the authorization server answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegistrationRequest {
    pub request_id: String,
    pub reason: String,
    pub client: ClientName,
    pub client_id: String,
    pub registration_uri: Option<String>,
    /// In the place of another `client_id`; with both, in the audit log.
    pub force: bool,
}

impl RegistrationRequest {
    /// Tells a repeated request from another one with the same id. No part has a line break in it.
    fn describe(&self) -> String {
        let mut text = format!("register {}", self.client_id);
        if let Some(uri) = &self.registration_uri {
            text += &format!("\nat {uri}");
        }
        text + if self.force { "\nforce" } else { "" }
    }
}

impl Keys {
    /// Writes it down, once for each `request_id`; all replicas sign with it where the configuration has no `client_id`.
    /// A forced one waits for a second operator where `[approval]` wants that.
    pub async fn record_registration(&self, caller: &Caller, request: RegistrationRequest) -> Result<Changed, Error> {
        self.authorise(caller, Act::Register.role(request.force))?;
        check_request_id(&request.request_id)?;
        self.check_registration(&request)?;
        let RegistrationRequest { request_id, reason, client, .. } = &request;
        let change = self.new_change(caller, client.clone(), request_id, reason, request.describe());
        if self.must_wait(Act::Register, request.force) {
            return self.propose(caller, change, Wanted::Register(request)).await;
        }
        let this = self.clone();
        // It goes on where the caller hangs up.
        let work = async move { this.record_once(request, change).await };
        tokio::spawn(work).await.map_err(Error::internal)?
    }

    /// What registering the client gave, as last read.
    pub fn registration(&self, client: &ClientName) -> Option<RegistrationResult> {
        self.context.keyring.keys().registrations.get(client).cloned()
    }

    fn check_registration(&self, request: &RegistrationRequest) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::new(Reason::InvalidRequest, text));
        if !self.context.registry.load().clients.contains_key(&request.client) {
            return invalid(format!("no client `{}` in the configuration", request.client));
        }
        if !is_client_id(&request.client_id) {
            return invalid("`client_id` is empty, longer than 8 KiB, or has a control character".to_owned());
        }
        let is_absolute = |uri: &String| ["https://", "http://"].iter().any(|scheme| uri.starts_with(scheme));
        let is_url = |uri: &String| is_absolute(uri) && uri.bytes().all(|byte| byte.is_ascii_graphic());
        match &request.registration_uri {
            Some(uri) if !is_url(uri) => invalid("`registration_uri` is no URL".to_owned()),
            _ => Ok(()),
        }
    }

    /// What it would do, a sentence each; or why it can't be done.
    pub(super) fn plan_registration(&self, request: &RegistrationRequest) -> Result<Vec<String>, Error> {
        self.check_registration(request)?;
        let RegistrationRequest { client, client_id, registration_uri, .. } = request;
        let mut plan = format!("client `{client}` is recorded as `{client_id}`");
        if let Some(before) = self.registration(client).filter(|before| before.client_id != *client_id) {
            plan += &format!(" instead of `{}`", before.client_id);
        }
        if let Some(uri) = registration_uri {
            plan += &format!(", with its registration at `{uri}`");
        }
        let mut plan = vec![plan];
        match self.configured_client_id(client) {
            None => plan.push("it signs as that at once".to_owned()),
            Some(_) => plan.extend(self.registration_advice(request)),
        }
        Ok(plan)
    }

    async fn record_once(&self, request: RegistrationRequest, change: KeyChange) -> Result<Changed, Error> {
        match self.begin(change).await? {
            Begun::Go(change) => self.record_begun(request, change, None).await,
            Begun::Done(before) => Ok(Changed { advice: self.registration_advice(&request), ..before }),
        }
    }

    /// Carries out a change that was begun; where it was approved, only if it does what was agreed to.
    pub(super) async fn record_begun(
        &self,
        request: RegistrationRequest,
        change: KeyChange,
        agreed: Option<&[String]>,
    ) -> Result<Changed, Error> {
        let author = Author { who: &change.operator, change: &change.id, reason: &change.reason };
        let recorded = self.write_registration(&request, &author, agreed).await;
        let state = if recorded.is_ok() { ChangeState::Applied } else { ChangeState::Failed };
        let store = self.context.keyring.store();
        let ended = store.end_change(&change.id, state, &[]).await.map_err(store_error);
        recorded?;
        ended?;
        self.reload().await?;
        // The alarm about two different ones begins or ends.
        self.rules.wake.notify_one();
        let advice = self.registration_advice(&request);
        Ok(Changed { advice, ..self.changed(KeyChange { state, ..change }) })
    }

    async fn write_registration(
        &self,
        request: &RegistrationRequest,
        author: &Author<'_>,
        agreed: Option<&[String]>,
    ) -> Result<(), Error> {
        // What another replica recorded counts too; what comes in between, the store refuses.
        self.reload().await?;
        if let Some(agreed) = agreed {
            check_same(agreed, &self.plan_registration(request)?)?;
        }
        let before = self.registration(&request.client).map(|result| result.client_id);
        self.check_replaced(request, before.as_deref())?;
        let mut subject = format!("{} as {}", request.client, request.client_id);
        if let Some(before) = before.as_ref().filter(|before| **before != request.client_id) {
            subject += &format!(" instead of {before}");
        }
        let result = RegistrationResult {
            client: request.client.clone(),
            client_id: request.client_id.clone(),
            registration_uri: request.registration_uri.clone(),
            recorded: self.now(),
        };
        let store = self.context.keyring.store();
        self.audited(author, "register", &subject, async {
            store.record_registration(&result, before.as_deref()).await.map_err(store_error)
        })
        .await
    }

    /// Another `client_id` than the one in use makes every assertion of the client another's at once.
    fn check_replaced(&self, request: &RegistrationRequest, before: Option<&str>) -> Result<(), Error> {
        let Some(before) = before.filter(|before| *before != request.client_id && !request.force) else {
            return Ok(());
        };
        let (client, before) = (&request.client, shortened(before));
        let text = match self.configured_client_id(client) {
            // What the configuration has is what it signs with already.
            Some(configured) if configured == request.client_id => return Ok(()),
            Some(configured) => format!(
                "`{client}` signs as `{}`, which the configuration fixes, and would go on doing so; `{before}` is what is \
                 recorded: correct `client_id` in its [[client]] or take it out; `--force` replaces what is recorded alone",
                shortened(&configured)
            ),
            None => format!(
                "`{client}` is recorded as `{before}`, and would sign as another client at once; `--force` goes through"
            ),
        };
        Err(Error::new(Reason::GateShut, text))
    }

    fn configured_client_id(&self, client: &ClientName) -> Option<String> {
        self.context.registry.load().clients.get(client).and_then(|client| client.client_id.clone())
    }

    fn registration_advice(&self, request: &RegistrationRequest) -> Vec<String> {
        let configured = self.configured_client_id(&request.client);
        let Some(configured) = configured.filter(|configured| *configured != request.client_id) else {
            return Vec::new();
        };
        vec![format!(
            "the configuration has another client_id for `{}`, `{configured}`, and wins: take it out or correct it",
            request.client
        )]
    }
}

/// Some have kilobytes, and an error's text has its bound.
fn shortened(client_id: &str) -> String {
    let short: String = client_id.chars().take(80).collect();
    if short.len() < client_id.len() { short + "…" } else { short }
}
