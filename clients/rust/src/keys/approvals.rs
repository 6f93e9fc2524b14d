//! Changes that need two operators.

use hallmark_proto::v1::{self, key_service_client::KeyServiceClient};

use super::KeyChange;
use crate::{Client, Error, client::timed};

impl Client {
    /// The changes that wait for a second operator, and the last of those that waited; the newest first.
    pub async fn proposed_changes(&self) -> Result<Vec<KeyChange>, Error> {
        let answer = operate!(self, list_changes(v1::ListChangesRequest {}));
        Ok(answer.changes.into_iter().map(KeyChange::from).collect())
    }

    /// Approves a change of another operator, and has it carried out. To approve twice is to approve once.
    pub async fn approve_change(&self, id: &str, reason: &str) -> Result<KeyChange, Error> {
        let (change_id, reason) = (id.to_owned(), reason.to_owned());
        change!(self, approve_change(v1::ApproveChangeRequest { change_id, reason }))
    }

    /// Says no to a change that waits, or takes one's own back.
    pub async fn deny_change(&self, id: &str, reason: &str) -> Result<KeyChange, Error> {
        let (change_id, reason) = (id.to_owned(), reason.to_owned());
        change!(self, deny_change(v1::DenyChangeRequest { change_id, reason }))
    }
}
