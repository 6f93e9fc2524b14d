//! Software statements: what a client says of itself where it is registered, signed with one of its keys.

use hallmark_core::{
    assertion::Stamp,
    certificate,
    error::Error,
    key::Kid,
    policy::{Act, Caller},
    software_statement::{self, Statement},
};

use super::{Keys, change::Author, choice::KeyChoice};

/// An operator wants a software statement.
#[derive(Clone, Debug)]
pub struct StatementRequest {
    pub request_id: String,
    pub reason: String,
    pub key: KeyChoice,
    pub statement: Statement,
}

/// A software statement that was signed.
#[derive(Clone, Debug)]
pub struct SignedStatement {
    pub compact: String,
    pub kid: Kid,
    pub stamp: Stamp,
}

impl Keys {
    /// A software statement about a client.
    pub async fn sign_software_statement(
        &self,
        caller: &Caller,
        request: StatementRequest,
    ) -> Result<SignedStatement, Error> {
        let StatementRequest { request_id, reason, key, statement } = request;
        let chosen = self.choose(caller, &key, Act::SignStatement.role(false))?;
        let key = chosen.pool_key()?;
        certificate::check(&chosen.client, key.validity(), self.now())?;
        let audience = statement.registration_endpoint.clone();
        let registered = self.context.registry.load_full();
        let client = self.context.keyring.keys().completed(&chosen.client).into_owned();
        let input = software_statement::prepare(statement, &client, &registered.policy, key.header())?;
        let who = caller.identity.to_string();
        let author = Author { who: &who, change: &request_id, reason: &reason };
        let signed = self.sign_for_operator(&chosen, input, &author, &audience).await?;
        let (compact, stamp) = signed.to_be_signed.into_compact(&signed.signature)?;
        Ok(SignedStatement { compact, kid: chosen.public.kid, stamp })
    }
}
