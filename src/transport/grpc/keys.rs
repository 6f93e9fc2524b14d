//! `hallmark.v1.KeyService`.

use std::sync::Arc;

use hallmark_core::{
    error::{Error, Reason},
    evidence::Nonce,
    key::KeyRecord,
};
use hallmark_proto::v1::{self, ListKeysRequest, ListKeysResponse, key_service_server::KeyService};
use tonic::{Request, Response, Status};

use super::{
    call::Call,
    certificates, convert,
    operation::{self, Operation},
};
use crate::service::{keys::Keys, refusals::Refusals, rotation::Rotation};

const LARGEST_PAGE: usize = 1000;

#[derive(Debug)]
pub(super) struct KeyManagement {
    keys: Keys,
    rotation: Rotation,
    refusals: Arc<Refusals>,
}

impl KeyManagement {
    pub(super) fn new(keys: Keys, rotation: Rotation, refusals: Arc<Refusals>) -> Self {
        Self { keys, rotation, refusals }
    }
}

/// The calls that change keys: each reads its message, has the use case carry it out, and answers with the change.
macro_rules! changes {
    ($($call:ident($request:ident) -> $response:ident by $use_case:ident;)*) => {
        #[tonic::async_trait]
        impl KeyService for KeyManagement {
            async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
                let call = Call::of(&self.refusals, &request)?;
                let message = request.into_inner();
                call.answer(&self.refusals, &message.client, self.list(&call, &message).await)
            }

            async fn get_key(&self, request: Request<v1::GetKeyRequest>) -> Result<Response<v1::GetKeyResponse>, Status> {
                let call = Call::of(&self.refusals, &request)?;
                let found = self.keys.get(&call.caller, &request.into_inner().kid);
                call.answer(&self.refusals, "", found.map(|record| v1::GetKeyResponse { key: Some(self.key(&record)) }))
            }

            async fn create_certificate_request(
                &self,
                request: Request<v1::CreateCertificateRequestRequest>,
            ) -> Result<Response<v1::CreateCertificateRequestResponse>, Status> {
                let call = Call::of(&self.refusals, &request)?;
                let message = request.into_inner();
                let client = message.client();
                let made = async { self.keys.request_certificate(&call.caller, message.read()?).await };
                let made = made.await.map(|(der, key)| certificates::csr_response(der, &key));
                call.answer(&self.refusals, &client, made)
            }

            async fn sign_software_statement(
                &self,
                request: Request<v1::SignSoftwareStatementRequest>,
            ) -> Result<Response<v1::SignSoftwareStatementResponse>, Status> {
                let call = Call::of(&self.refusals, &request)?;
                let message = request.into_inner();
                let client = message.client();
                let signed = async { self.keys.sign_software_statement(&call.caller, message.read()?).await };
                let signed = signed.await.map(certificates::statement_response);
                call.answer(&self.refusals, &client, signed)
            }

            async fn get_key_evidence(
                &self,
                request: Request<v1::GetKeyEvidenceRequest>,
            ) -> Result<Response<v1::GetKeyEvidenceResponse>, Status> {
                let call = Call::of(&self.refusals, &request)?;
                let v1::GetKeyEvidenceRequest { kid, nonce } = request.into_inner();
                let made = async { self.keys.evidence(&call.caller, &kid, Nonce::new(nonce)?).await };
                let made = made.await.map(|signed| v1::GetKeyEvidenceResponse {
                    evidence: signed.compact,
                    custody_kid: signed.custody_kid.to_string(),
                });
                call.answer(&self.refusals, "", made)
            }

            async fn list_changes(
                &self,
                request: Request<v1::ListChangesRequest>,
            ) -> Result<Response<v1::ListChangesResponse>, Status> {
                let call = Call::of(&self.refusals, &request)?;
                let listed = self.keys.proposed(&call.caller).await;
                let changes = listed.map(|all| all.iter().map(convert::key_change).collect());
                call.answer(&self.refusals, "", changes.map(|changes| v1::ListChangesResponse { changes }))
            }

            async fn approve_change(
                &self,
                request: Request<v1::ApproveChangeRequest>,
            ) -> Result<Response<v1::ApproveChangeResponse>, Status> {
                let call = Call::of(&self.refusals, &request)?;
                let v1::ApproveChangeRequest { change_id, reason } = request.into_inner();
                let approved = async { self.keys.approve(&call.caller, &change_id, &operation::reason(reason)?).await };
                let change = approved.await.map(|changed| Some(convert::key_change(&changed)));
                call.answer(&self.refusals, "", change.map(|change| v1::ApproveChangeResponse { change }))
            }

            async fn deny_change(
                &self,
                request: Request<v1::DenyChangeRequest>,
            ) -> Result<Response<v1::DenyChangeResponse>, Status> {
                let call = Call::of(&self.refusals, &request)?;
                let v1::DenyChangeRequest { change_id, reason } = request.into_inner();
                let denied = async { self.keys.deny(&call.caller, &change_id, &operation::reason(reason)?).await };
                let change = denied.await.map(|changed| Some(convert::key_change(&changed)));
                call.answer(&self.refusals, "", change.map(|change| v1::DenyChangeResponse { change }))
            }

            $(async fn $call(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                let call = Call::of(&self.refusals, &request)?;
                let message = request.into_inner();
                let client = Operation::client(&message);
                let result = match message.read() {
                    Ok(request) => self.keys.$use_case(&call.caller, request).await,
                    Err(error) => Err(error),
                };
                let result = result.map(|changed| v1::$response { change: Some(convert::key_change(&changed)) });
                call.answer(&self.refusals, &client, result)
            })*
        }
    };
}

changes! {
    create_keys(CreateKeysRequest) -> CreateKeysResponse by create;
    rotate_keys(RotateKeysRequest) -> RotateKeysResponse by alter;
    activate_key(ActivateKeyRequest) -> ActivateKeyResponse by alter;
    deactivate_key(DeactivateKeyRequest) -> DeactivateKeyResponse by alter;
    revoke_key(RevokeKeyRequest) -> RevokeKeyResponse by alter;
    retire_key(RetireKeyRequest) -> RetireKeyResponse by alter;
    destroy_key(DestroyKeyRequest) -> DestroyKeyResponse by alter;
    confirm_key(ConfirmKeyRequest) -> ConfirmKeyResponse by alter;
    adopt_key(AdoptKeyRequest) -> AdoptKeyResponse by adopt;
    install_certificate(InstallCertificateRequest) -> InstallCertificateResponse by install_certificate;
    self_sign_certificate(SelfSignCertificateRequest) -> SelfSignCertificateResponse by self_sign_certificate;
}

impl KeyManagement {
    async fn list(&self, call: &Call, message: &ListKeysRequest) -> Result<ListKeysResponse, Error> {
        let client = convert::optional_name("client", &message.client)?;
        let records = self.keys.list(&call.caller, client.as_ref())?;
        let (page, next_page_token) = page(&records, message)?;
        let inventory = self.keys.inventory(&call.caller, message.fresh && message.page_token.is_empty()).await?;
        let outlook = self.rotation.outlook();
        let key = |record: &KeyRecord| v1::Key {
            absent: inventory.absent.contains(&record.id),
            next_step: outlook.next_step(record).map(convert::upcoming),
            certificate_missing: self.keys.lacks_certificate(record),
            ..convert::key(record)
        };
        let wants_strays = next_page_token.is_empty() && client.is_none();
        let strays = if wants_strays { inventory.strays.clone() } else { Vec::new() };
        Ok(ListKeysResponse {
            keys: page.iter().map(key).collect(),
            next_page_token,
            strays: strays.into_iter().map(convert::stray).collect(),
            unanswered_hsms: inventory.unanswered.iter().map(ToString::to_string).collect(),
            looks: inventory.looked.iter().map(convert::look).collect(),
        })
    }

    /// A record, with what happens to it next, and what it lacks.
    fn key(&self, record: &KeyRecord) -> v1::Key {
        v1::Key {
            next_step: self.rotation.outlook().next_step(record).map(convert::upcoming),
            certificate_missing: self.keys.lacks_certificate(record),
            ..convert::key(record)
        }
    }
}

/// The records of the page that is asked for, and what asks for the one after it.
fn page<'a>(records: &'a [KeyRecord], message: &ListKeysRequest) -> Result<(&'a [KeyRecord], String), Error> {
    let asked = usize::try_from(message.page_size).ok().filter(|size| (1..=LARGEST_PAGE).contains(size));
    let size = asked.unwrap_or(LARGEST_PAGE);
    // The token is the id of the last key before; ids stay, whatever is added meanwhile.
    let start = match message.page_token.as_str() {
        "" => 0,
        token => {
            let last = records.iter().position(|record| record.id.to_string() == token);
            last.ok_or_else(|| Error::new(Reason::InvalidRequest, "`page_token` is of no response before"))? + 1
        }
    };
    let page = &records[start..records.len().min(start + size)];
    let more = start + page.len() < records.len();
    let next = page.last().filter(|_| more).map(|last| last.id.to_string()).unwrap_or_default();
    Ok((page, next))
}
