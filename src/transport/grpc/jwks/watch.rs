//! One `WatchJwks` stream: all documents, then what changes, to one follower.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use hallmark_core::{
    client::JwksHost,
    error::{Error, Reason},
};
use hallmark_proto::v1::{JwksDocument, WatchJwksRequest, WatchJwksResponse, jwks_document};
use tokio::{
    sync::watch,
    time::{self, Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{PublicKeys, convert};
use crate::{
    service::{
        followers::Follower,
        publish::{Kind, PublishedSet},
    },
    transport::grpc::call::{Call, refuse},
};

/// How often a follower hears that it is still connected.
const BEAT: Duration = Duration::from_secs(10);
/// Documents of one message: far below the 4 MiB that gRPC libraries take by default.
const MESSAGE_BYTES: usize = 512 * 1024;
const MAX_INSTANCE: usize = 64;

/// The messages for one follower, as it reads them: what waits costs the paths, not the documents.
pub(super) struct Watch {
    keys: PublicKeys,
    call: Call,
    /// What the follower says; `None` once it has said all that it will.
    heard: Option<Streaming<WatchJwksRequest>>,
    instance: String,
    changes: watch::Receiver<u64>,
    /// What the follower has, once the update under way is sent.
    sent: Arc<PublishedSet>,
    update: Option<Update>,
    beat: Interval,
    closing: CancellationToken,
}

/// An update under way.
struct Update {
    whole: bool,
    documents: VecDeque<Box<str>>,
    withdrawn: Vec<String>,
}

enum Event {
    Heard(Result<Option<WatchJwksRequest>, Status>),
    Changed,
    Beat,
    Closing,
}

impl Watch {
    /// Begins with all documents.
    pub(super) fn new(
        keys: PublicKeys,
        call: Call,
        heard: Streaming<WatchJwksRequest>,
        closing: CancellationToken,
    ) -> Self {
        let changes = keys.publisher.changes();
        let sent = keys.publisher.current();
        let update = Some(Update::between(None, &sent));
        let mut beat = time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        Self { keys, call, heard: Some(heard), instance: String::new(), changes, sent, update, beat, closing }
    }

    /// The messages, until the follower goes, may no longer follow, or its connection has to go.
    pub(super) fn messages(self) -> impl Stream<Item = Result<WatchJwksResponse, Status>> {
        stream::unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(Some(message)) => Some((Ok(message), Some(watch))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<WatchJwksResponse>, Status> {
        loop {
            if let Some(update) = self.update.take() {
                self.check()?;
                self.beat.reset();
                return Ok(Some(self.message(update)));
            }
            match self.event().await {
                Event::Closing => return Ok(None),
                Event::Heard(Ok(Some(message))) => self.acknowledged(message)?,
                Event::Heard(Ok(None)) => self.heard = None,
                Event::Heard(Err(status)) => return Err(status),
                Event::Changed => {
                    let now = self.keys.publisher.current();
                    self.update = Some(Update::between(Some(&self.sent), &now));
                    self.sent = now;
                }
                Event::Beat => {
                    self.update = Some(Update { whole: false, documents: VecDeque::new(), withdrawn: Vec::new() })
                }
            }
        }
    }

    async fn event(&mut self) -> Event {
        let heard = async {
            match &mut self.heard {
                Some(heard) => heard.message().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Event::Closing,
            // The publisher outlives all streams.
            _ = self.changes.changed() => Event::Changed,
            heard = heard => Event::Heard(heard),
            _ = self.beat.tick() => Event::Beat,
        }
    }

    /// Each message is for a caller that may have it now: policy and certificate are looked at again.
    fn check(&self) -> Result<(), Status> {
        let allowed = self.keys.may_follow(&self.call);
        allowed.map_err(|error| self.refused(&error))
    }

    fn acknowledged(&mut self, message: WatchJwksRequest) -> Result<(), Status> {
        if self.instance.is_empty() {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if message.instance.len() > MAX_INSTANCE || !message.instance.bytes().all(plain) {
                let text = "`instance` is not at most 64 of A-Z, a-z, 0-9, - and _";
                return Err(self.refused(&Error::new(Reason::InvalidRequest, text)));
            }
            self.instance = message.instance;
        }
        if self.instance.is_empty() {
            return Ok(());
        }
        let follower = Follower { identity: self.call.caller.identity.clone(), instance: self.instance.clone() };
        // Nobody serves what was not sent.
        let generation = message.acknowledged_generation.min(self.sent.generation);
        let noted = self.keys.followers.heard(&follower, generation);
        noted.map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &Error) -> Status {
        refuse(&self.keys.refusals, &self.call.id, &self.call.caller, "", error)
    }

    /// The next message of `update`, which goes on where it does not fit into one.
    fn message(&mut self, mut update: Update) -> WatchJwksResponse {
        let mut documents = Vec::new();
        let mut bytes = 0;
        while bytes < MESSAGE_BYTES
            && let Some(path) = update.documents.pop_front()
        {
            let document = document(&self.sent, &path);
            bytes += document.as_ref().map_or(0, |document| document.body.len());
            documents.extend(document);
        }
        let complete = update.documents.is_empty();
        let message = WatchJwksResponse {
            generation: self.sent.generation,
            whole: update.whole,
            complete,
            documents,
            withdrawn: std::mem::take(&mut update.withdrawn),
            max_age: convert::duration_message(self.sent.max_age),
            sent_at: Some(convert::timestamp(self.keys.clock.now())),
            public_url: self.keys.publisher.public_url().to_owned(),
            left_out: if complete { left_out(&self.sent) } else { Vec::new() },
        };
        self.update = (!complete).then_some(update);
        message
    }
}

impl Update {
    fn between(before: Option<&PublishedSet>, now: &PublishedSet) -> Self {
        let changes = now.changes_since(before);
        let (only_here, others): (Vec<_>, Vec<_>) =
            changes.documents.into_iter().partition(|(_, slot, _)| slot.only_here);
        // What the follower had before it was so.
        let had = |path: &str| before?.slot(path).filter(|slot| !slot.only_here);
        let taken_back = only_here.iter().map(|(path, ..)| *path).filter(|path| had(path).is_some());
        Self {
            whole: before.is_none(),
            documents: others.iter().map(|(path, ..)| Box::from(*path)).collect(),
            withdrawn: changes.withdrawn.into_iter().chain(taken_back).map(str::to_owned).collect(),
        }
    }
}

fn left_out(set: &PublishedSet) -> Vec<String> {
    set.only_here().into_iter().map(ToString::to_string).collect()
}

fn document(set: &PublishedSet, path: &str) -> Option<JwksDocument> {
    let slot = set.slot(path)?;
    let published = slot.published.as_ref()?;
    let kind = match slot.kind {
        Kind::Jwks => jwks_document::Kind::Jwks,
        Kind::Pem => jwks_document::Kind::Pem,
    };
    Some(JwksDocument {
        path: path.to_owned(),
        client: slot.client.to_string(),
        kind: kind.into(),
        body: published.body.to_vec(),
        etag: published.etag().to_owned(),
        next_change: slot.next_change.map(convert::timestamp),
        edge_ttl: slot.edge_ttl.and_then(convert::duration_message),
        generation: slot.since,
        jwks_host: slot.host.map(JwksHost::as_str).unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hallmark_core::{client::Client, profile::Profile};

    use super::*;
    use crate::service::publish::{Publisher, sample_record};

    /// A client whose system turns out to take the first key is taken back from whoever had it.
    #[test]
    fn what_only_its_signer_may_serve_is_not_sent() {
        let named =
            |profile| Client::new("a".parse().unwrap(), Profile::find(profile).unwrap(), "https://as.example/token");
        let (publisher, records) = (Publisher::new("", Duration::from_secs(300)), [sample_record("a", 1)]);
        publisher.rebuild([&named("generic")], &records);
        let before = publisher.current();
        assert_eq!(Update::between(None, &before).documents.len(), 2);

        publisher.rebuild([&named("openemr-7")], &records);
        let now = publisher.current();
        let whole = Update::between(None, &now);
        assert_eq!((whole.documents.len(), left_out(&now)), (0, vec!["a".to_owned()]));
        let change = Update::between(Some(&before), &now);
        assert_eq!((change.documents.len(), change.withdrawn.len()), (0, 2));

        publisher.rebuild([&named("generic")], &records);
        assert_eq!(Update::between(Some(&now), &publisher.current()).documents.len(), 2);
    }
}
