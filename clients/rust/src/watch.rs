//! Everything that Hallmark publishes, for those who serve it elsewhere.

use std::time::{Duration, SystemTime};

use hallmark_proto::v1::{self, jwks_document, jwks_service_client::JwksServiceClient};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{Client, Error, Remedy, given, reason};

/// The published documents, as they are and as they change. Ends when it is dropped.
#[derive(Debug)]
pub struct JwksWatch {
    updates: tonic::Streaming<v1::WatchJwksResponse>,
    says: mpsc::UnboundedSender<v1::WatchJwksRequest>,
    /// Of an update whose last message has not come yet.
    begun: JwksUpdate,
}

/// What leads from one state of the documents to the next. The first holds all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwksUpdate {
    /// Grows with each change; means something to this watch only.
    pub generation: u64,
    /// It holds all documents: what is not in it is withdrawn.
    pub whole: bool,
    pub documents: Vec<PublishedDocument>,
    /// Paths at which there is nothing any more.
    pub withdrawn: Vec<String>,
    /// The longest time that a verifier may be told to keep a document.
    pub max_age: Duration,
    /// By the clock of [`PublishedDocument::next_change`].
    pub sent_at: Option<SystemTime>,
    /// How authorization servers reach the documents: paths are appended.
    pub public_url: String,
    /// Clients whose documents only the signer itself may serve: they are in no update.
    pub left_out: Vec<String>,
}

/// What is served at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedDocument {
    /// With a slash at the beginning.
    pub path: String,
    pub client: String,
    pub kind: DocumentKind,
    pub body: Vec<u8>,
    /// The strong entity tag, with its quotes.
    pub etag: String,
    /// When it is known to change next.
    pub next_change: Option<SystemTime>,
    /// How long a cache between Hallmark and the verifiers may hold it; zero where there is none, `None` where the
    /// client is no longer configured.
    pub edge_ttl: Option<Duration>,
    /// Who answers at its URL, as configured: `hallmark` or `static`. `None` where the client is no longer configured, and
    /// from servers that do not say.
    pub jwks_host: Option<String>,
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DocumentKind {
    Jwks,
    /// The active key as PEM.
    Pem,
}

impl Client {
    /// Follows what is published. `instance` names this process among others of its identity, for those who serve the
    /// documents and [`JwksWatch::acknowledge`] them; empty for those who only read.
    pub async fn watch_jwks(&self, instance: &str) -> Result<JwksWatch, Error> {
        let (says, said) = mpsc::unbounded_channel();
        // The first message is there before the stream is: nobody receives in between, so it can't be lost.
        let _ = says.send(v1::WatchJwksRequest { instance: instance.to_owned(), acknowledged_generation: 0 });
        let mut client = JwksServiceClient::new(self.inner.channels.get());
        let watch = client.watch_jwks(UnboundedReceiverStream::new(said));
        let answered = timeout(self.inner.options.timeout, watch).await;
        let address = self.inner.channels.address();
        let updates = answered.map_err(|_| Error::deadline("hallmark did not answer in time").at(address))?;
        let updates = updates.map_err(|status| Error::calling(status, address)).inspect_err(|error| {
            if error.remedy() == Remedy::AskPermission {
                self.inner.channels.doubt();
            }
        })?;
        Ok(JwksWatch { updates: updates.into_inner(), says, begun: JwksUpdate::default() })
    }
}

impl JwksWatch {
    /// The next update. One without documents says that all is as it was: acknowledge again what is served. `None`: the
    /// server has to close the connection, and asks to be watched anew.
    ///
    /// # Errors
    /// The stream broke, or was silent for longer than a living server is.
    pub async fn next(&mut self) -> Result<Option<JwksUpdate>, Error> {
        loop {
            let message = timeout(SILENCE, self.updates.message()).await;
            let silent = || Error::new(Remedy::RetryLater, reason::UNREACHABLE, "hallmark was silent for too long");
            let Some(message) = message.map_err(|_| silent())?? else { return Ok(None) };
            let complete = message.complete;
            self.begun.add(message)?;
            if complete {
                return Ok(Some(std::mem::take(&mut self.begun)));
            }
        }
    }

    /// Tells the server that `generation` is served here, and will be after a crash: it is on the disk.
    pub fn acknowledge(&self, generation: u64) {
        // Where the stream is gone, `next` says so.
        let _ = self.says.send(v1::WatchJwksRequest { instance: String::new(), acknowledged_generation: generation });
    }
}

impl JwksUpdate {
    fn add(&mut self, message: v1::WatchJwksResponse) -> Result<(), Error> {
        self.generation = message.generation;
        self.whole |= message.whole;
        self.documents.extend(message.documents.into_iter().filter_map(PublishedDocument::known));
        self.withdrawn.extend(message.withdrawn);
        let max_age = given::value(message.max_age);
        self.max_age = max_age.ok_or_else(|| Error::unexpected("hallmark's update lacks `max_age`"))?;
        self.sent_at = given::value(message.sent_at);
        self.public_url = message.public_url;
        self.left_out = message.left_out;
        Ok(())
    }
}

impl PublishedDocument {
    /// `None` for a kind that this version does not know: the others are no worse for it.
    fn known(document: v1::JwksDocument) -> Option<Self> {
        let kind = match document.kind() {
            jwks_document::Kind::Jwks => DocumentKind::Jwks,
            jwks_document::Kind::Pem => DocumentKind::Pem,
            jwks_document::Kind::Unspecified => return None,
        };
        let v1::JwksDocument { path, client, body, etag, jwks_host, .. } = document;
        let next_change = given::value(document.next_change);
        let edge_ttl = given::value(document.edge_ttl);
        let jwks_host = (!jwks_host.is_empty()).then_some(jwks_host);
        Some(Self { path, client, kind, body, etag, next_change, edge_ttl, jwks_host })
    }
}

/// A living server sends something three times within it.
const SILENCE: Duration = Duration::from_secs(30);
