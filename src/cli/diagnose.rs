//! Looks at everything that may tell why an authorization server refuses; `hallmark_core::diagnosis` says what follows.
//!
//! Contacts Hallmark, the JWKS URL and the authorization server's host; sends nothing of ours, and no credentials.

use std::{path::PathBuf, time::SystemTime};

use hallmark_client::{Client, Error, OAuthClient, Sent};
use hallmark_core::{
    diagnosis::{Answer, Assertion, Cause, Contact, Facts, KeySet, Registered, causes},
    discovery::Discovery,
    profile::Profile,
    time::Timestamp,
};

use super::{Failure, connect::failure, output::now};
use crate::verifier::Verifier;

mod outside;
mod report;
mod unreached;

pub(super) use self::{
    report::{as_json, as_text, body},
    unreached::{Unanswered, place, unanswered},
};

/// Whom verifiers' certificates must be from, where that is not left to the system.
#[derive(Clone, Debug, Default)]
pub(super) struct Authorities {
    pub(super) jwks: Option<PathBuf>,
    pub(super) token_endpoint: Option<PathBuf>,
}

/// What was seen at once.
pub(super) struct Seen {
    client: OAuthClient,
    profile: &'static Profile,
    pub(super) key_set: KeySet,
    contact: Contact,
    pub(super) discovery: Option<Discovery>,
    server_time: Option<Timestamp>,
    our_time: Timestamp,
}

impl Seen {
    /// Looks. What can't be reached is an observation, too.
    pub(super) async fn look(hallmark: &Client, client: OAuthClient, ca: &Authorities) -> Result<Self, Failure> {
        let verifier = |ca: &Option<PathBuf>| Verifier::new(ca.as_deref()).map_err(outside::unusable);
        let (jwks, server) = (verifier(&ca.jwks)?, verifier(&ca.token_endpoint)?);
        let (key_set, met) =
            futures_util::join!(outside::key_set(hallmark, &jwks, &client), outside::meet(&server, &client));
        let profile = Profile::find(&client.profile).or_else(|| Profile::find(Profile::DEFAULT));
        let profile = profile.ok_or_else(|| Failure::new("there is no profile"))?;
        let outside::Met { contact, discovery, server_time, our_time } = met;
        Ok(Self { client, profile, key_set: key_set?, contact, discovery, server_time, our_time })
    }

    /// For the pure part.
    pub(super) fn facts<'a>(
        &'a self,
        assertion: Option<&'a Assertion>,
        active: Option<&'a str>,
        answer: Option<&'a Answer>,
    ) -> Facts<'a> {
        let OAuthClient { name, client_id, iss, token_endpoint, .. } = &self.client;
        let kid = assertion.and_then(|assertion| assertion.header.get("kid")?.as_str()).or(active);
        Facts {
            client: Registered { name, client_id: client_id.as_deref(), iss: iss.as_deref(), token_endpoint },
            profile: self.profile,
            assertion,
            kid,
            key_set: &self.key_set,
            contact: &self.contact,
            discovery: self.discovery.as_ref(),
            server_time: self.server_time,
            our_time: self.our_time,
            answer,
        }
    }

    pub(super) fn profile(&self) -> &'static Profile {
        self.profile
    }

    /// An answer is the best witness of the server's clock.
    pub(super) fn hear(&mut self, sent: &Sent, at: SystemTime) {
        if let Some(date) = sent.date.as_deref().and_then(outside::http_date) {
            (self.server_time, self.our_time) = (Some(date), timestamp(at));
        }
    }
}

/// The causes of a refusal, and the answer; `None` where the authorization server was not the one that refused.
pub(super) async fn refusal(
    hallmark: &Client,
    name: &str,
    error: &Error,
    ca: &Authorities,
) -> Result<Option<(Answer, Vec<Cause>)>, Failure> {
    let (Some(refusal), Some(sent)) = (error.refusal(), error.sent()) else { return Ok(None) };
    let at = now();
    let client = hallmark.oauth_client(name).await.map_err(|error| failure(&error, name))?;
    let mut seen = Seen::look(hallmark, client, ca).await?;
    seen.hear(sent, at);
    let answer = Answer { status: refusal.status, body: refusal.body.clone() };
    let assertion = Assertion::read(&sent.header, &sent.claims);
    // Of systems that are sent no `kid`, the key is the one that Hallmark lists first.
    let first = first_kid(&seen.key_set);
    let causes = causes(&seen.facts(assertion.as_ref(), first.as_deref(), Some(&answer)));
    Ok(Some((answer, causes)))
}

/// The active key of the first line comes first in the set.
pub(super) fn first_kid(key_set: &KeySet) -> Option<String> {
    key_set.ours.first().and_then(|key| key.get("kid")?.as_str().map(str::to_owned))
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
