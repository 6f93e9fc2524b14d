//! Keys, for operators; and the JWKS, for everyone who signs with them.

use std::time::SystemTime;

use hallmark_proto::v1::{
    self, jwks_service_client::JwksServiceClient, key_service_client::KeyServiceClient,
    rotation_service_client::RotationServiceClient,
};

use crate::{Client, Error, client::timed};

mod change;
mod jwks;
mod listing;
mod order;
mod record;

pub use self::{
    change::{Approval, ChangeState, KeyChange},
    jwks::Jwks,
    listing::{HsmLook, KeyList, Stray, UpcomingStep},
    order::{Adoption, Confirmation, KeyAction, ObjectRef, Order},
    record::{Certificate, Key, KeyState},
};

/// Sends a call for operators until it is through, and gives the answer.
macro_rules! operate {
    ($client:expr, $call:ident($message:expr)) => {{
        let deadline = $client.deadline(Some($client.inner.options.timeout.max($crate::keys::GENERATION)));
        let message = $message;
        let send = |channel| {
            let request = timed(message.clone(), deadline);
            async move { KeyServiceClient::new(channel).$call(request).await }
        };
        $client.call(deadline, send).await?
    }};
}

/// Sends a change until it is through, and gives what came of it.
macro_rules! change {
    ($client:expr, $call:ident($message:expr)) => {{
        let change = operate!($client, $call($message)).change;
        change.map(KeyChange::from).ok_or_else(|| Error::unexpected("hallmark's answer lacks `change`"))
    }};
}

mod approvals;
mod certificates;
mod evidence;

pub use certificates::{CertificateNames, CertificateRequest, KeyChoice, SoftwareStatement};
pub use evidence::KeyEvidence;

impl Client {
    /// All keys of one client, or of all clients.
    pub async fn list_keys(&self, client: Option<&str>) -> Result<Vec<Key>, Error> {
        Ok(self.compare_keys(client).await?.keys)
    }

    /// As [`Self::list_keys`], with what is on the HSMs and has no record, as of when Hallmark last looked.
    pub async fn compare_keys(&self, client: Option<&str>) -> Result<KeyList, Error> {
        self.compare(client, false).await
    }

    /// As [`Self::compare_keys`], after Hallmark has looked at the HSMs again. For operators with role `rotate`.
    pub async fn compare_keys_now(&self, client: Option<&str>) -> Result<KeyList, Error> {
        self.compare(client, true).await
    }

    async fn compare(&self, client: Option<&str>, fresh: bool) -> Result<KeyList, Error> {
        let mut list = KeyList::default();
        let mut page_token = String::new();
        loop {
            let client = client.unwrap_or_default().to_owned();
            let page = self.list_page(v1::ListKeysRequest { client, page_size: 0, page_token, fresh }).await?;
            list.keys.extend(page.keys.into_iter().map(Key::from));
            list.strays.extend(page.strays.into_iter().map(Stray::from));
            list.unanswered_hsms = page.unanswered_hsms;
            list.looks = page.looks.into_iter().filter_map(HsmLook::read).collect();
            if page.next_page_token.is_empty() {
                return Ok(list);
            }
            page_token = page.next_page_token;
        }
    }

    async fn list_page(&self, request: v1::ListKeysRequest) -> Result<v1::ListKeysResponse, Error> {
        let deadline = self.deadline(None);
        let list = |channel| {
            let request = timed(request.clone(), deadline);
            async move { KeyServiceClient::new(channel).list_keys(request).await }
        };
        self.call(deadline, list).await
    }

    /// One key by its `kid`.
    pub async fn get_key(&self, kid: &str) -> Result<Key, Error> {
        let deadline = self.deadline(None);
        let get = |channel| {
            let request = timed(v1::GetKeyRequest { kid: kid.to_owned() }, deadline);
            async move { KeyServiceClient::new(channel).get_key(request).await }
        };
        let answer: v1::GetKeyResponse = self.call(deadline, get).await?;
        answer.key.map(Key::from).ok_or_else(|| Error::unexpected("hallmark's answer lacks `key`"))
    }

    /// Makes the first keys of a client: of its key line with `alg`, or of all its lines.
    ///
    /// Key generation takes its time on an HSM: this, like every change, waits up to a minute, and longer if
    /// [`crate::Options::timeout`] is.
    pub async fn create_keys(
        &self,
        client: &str,
        alg: Option<&str>,
        order: impl Into<Order>,
    ) -> Result<KeyChange, Error> {
        // One id for all tries: a repeated request makes nothing twice.
        let Order { request_id, reason, force: _ } = order.into();
        let (client, alg) = (client.to_owned(), alg.unwrap_or_default().to_owned());
        change!(self, create_keys(v1::CreateKeysRequest { request_id, reason, client, alg }))
    }

    /// Switches a client to its standbys: its key line with `alg`, or all its lines.
    pub async fn rotate_keys(
        &self,
        client: &str,
        alg: Option<&str>,
        order: impl Into<Order>,
    ) -> Result<KeyChange, Error> {
        let Order { request_id, reason, force } = order.into();
        let (client, alg) = (client.to_owned(), alg.unwrap_or_default().to_owned());
        change!(self, rotate_keys(v1::RotateKeysRequest { request_id, reason, client, alg, force }))
    }

    /// Does `action` to the key with that `kid`.
    pub async fn alter_key(&self, action: KeyAction, kid: &str, order: impl Into<Order>) -> Result<KeyChange, Error> {
        let Order { request_id, reason, force } = order.into();
        let kid = kid.to_owned();
        match action {
            KeyAction::Activate => {
                change!(self, activate_key(v1::ActivateKeyRequest { request_id, reason, kid, force }))
            }
            KeyAction::Deactivate => {
                change!(self, deactivate_key(v1::DeactivateKeyRequest { request_id, reason, kid, force }))
            }
            KeyAction::Revoke => change!(self, revoke_key(v1::RevokeKeyRequest { request_id, reason, kid })),
            KeyAction::Retire => change!(self, retire_key(v1::RetireKeyRequest { request_id, reason, kid, force })),
            KeyAction::Destroy => change!(self, destroy_key(v1::DestroyKeyRequest { request_id, reason, kid, force })),
            KeyAction::Confirm(confirmation) => {
                let confirmation = v1::Confirmation::from(confirmation).into();
                change!(self, confirm_key(v1::ConfirmKeyRequest { request_id, reason, kid, confirmation }))
            }
        }
    }

    /// Takes in a key that is on an HSM and has no record.
    pub async fn adopt_key(&self, adoption: Adoption, order: impl Into<Order>) -> Result<KeyChange, Error> {
        let Order { request_id, reason, force: _ } = order.into();
        let Adoption { client, alg, hsm, object, kid } = adoption;
        let object = Some(match object {
            ObjectRef::CkaId(id) => v1::adopt_key_request::Object::CkaId(id),
            ObjectRef::Label(label) => v1::adopt_key_request::Object::Label(label),
        });
        let [alg, hsm, kid] = [alg, hsm, kid].map(Option::unwrap_or_default);
        change!(self, adopt_key(v1::AdoptKeyRequest { request_id, reason, client, alg, hsm, object, kid }))
    }

    /// What is going to happen to the keys of one client, or of all, until then; in the order of time.
    pub async fn plan_rotation(&self, client: Option<&str>, until: SystemTime) -> Result<Vec<UpcomingStep>, Error> {
        let deadline = self.deadline(None);
        let client = client.unwrap_or_default().to_owned();
        let message = v1::PlanRotationRequest { client, until: Some(until.into()) };
        let plan = |channel| {
            let request = timed(message.clone(), deadline);
            async move { RotationServiceClient::new(channel).plan_rotation(request).await }
        };
        let answer: v1::PlanRotationResponse = self.call(deadline, plan).await?;
        let steps = answer.steps.into_iter().map(UpcomingStep::read).collect::<Option<_>>();
        steps.ok_or_else(|| Error::unexpected("a step of hallmark's plan has no time"))
    }

    /// The client's JWKS as its URL serves it.
    pub async fn jwks(&self, client: &str) -> Result<Jwks, Error> {
        let deadline = self.deadline(None);
        let get = |channel| {
            let request = timed(v1::GetJwksRequest { client: client.to_owned() }, deadline);
            async move { JwksServiceClient::new(channel).get_jwks(request).await }
        };
        let v1::GetJwksResponse { jwks_json, url, etag } = self.call(deadline, get).await?;
        Ok(Jwks { document: jwks_json, url, etag })
    }
}

/// A slow card takes half a minute for an RSA key.
const GENERATION: std::time::Duration = std::time::Duration::from_secs(60);
