//! A real Hallmark for the length of a test: `hallmark dev --ephemeral`, with a software token of its own.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use hallmark_client::testing::TestHallmark;
//!
//! let hallmark = TestHallmark::builder().client("clinic", "RS384").start()?;
//! let jwks_url = hallmark.jwks_url("clinic"); // for the authorization server under test
//! let assertion = hallmark.client()?.sign_assertion(hallmark_client::SignRequest::new("clinic")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The binary is `$HALLMARK_BIN`, else `hallmark` on the `PATH`. It ends when [`TestHallmark`] is dropped, and also when
//! the test process dies in any way, since it watches its standard input.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use serde::Deserialize;

use self::process::Process;
use crate::{Client, Connection, Error};

mod process;

/// A running `hallmark dev --ephemeral`. Dropping it stops the process and waits for its end.
#[derive(Debug)]
pub struct TestHallmark {
    process: Process,
    ready: Ready,
}

/// An OAuth client that it signs for.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct TestClient {
    pub name: String,
    pub client_id: String,
    pub alg: String,
    pub jwks_url: String,
}

/// Why there is no [`TestHallmark`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("can't start `{}`; install hallmark, or set HALLMARK_BIN", .binary.display())]
    Spawn { binary: PathBuf, source: io::Error },
    #[error("hallmark ended before it was ready ({status}): {stderr}")]
    Ended { status: ExitStatus, stderr: String },
    #[error("hallmark was not ready within {} s: {stderr}", .waited.as_secs())]
    NotReady { waited: Duration, stderr: String },
    #[error("hallmark's first line is not what this version expects: `{line}`")]
    Line { line: String, source: serde_json::Error },
}

/// What a [`TestHallmark`] starts with.
#[derive(Clone, Debug)]
pub struct Builder {
    binary: PathBuf,
    arguments: Vec<OsString>,
    timeout: Duration,
}

impl TestHallmark {
    /// With what `hallmark dev` brings by itself: one client, `demo`.
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// With one client, `demo`, unless the builder is told otherwise.
    pub fn builder() -> Builder {
        let binary = env::var_os("HALLMARK_BIN").filter(|path| !path.is_empty()).unwrap_or_else(|| "hallmark".into());
        let arguments = ["dev", "--ephemeral", "--json", "--exit-with-stdin"].map(OsString::from).into();
        Builder { binary: binary.into(), arguments, timeout: Duration::from_secs(60) }
    }

    /// Stops it and waits for its end without holding up the runtime. Dropping does the same, but blocks the thread: where
    /// that is the runtime's only one, clients of this server can't take part in its shutdown, and it takes longer.
    pub async fn stop(self) {
        // It fails only with the runtime, and then the drop was done.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    /// A client that may sign for all its OAuth clients. To be called inside a tokio runtime.
    pub fn client(&self) -> Result<Client, Error> {
        Client::connect(self.connection()?)
    }

    /// A client that may manage keys. To be called inside a tokio runtime.
    pub fn operator(&self) -> Result<Client, Error> {
        Client::connect(Connection::from_file(&self.ready.operator_connection)?)
    }

    /// The connection of [`Self::client`].
    pub fn connection(&self) -> Result<Connection, Error> {
        Connection::from_file(&self.ready.connection)
    }

    /// The file behind [`Self::connection`], for `HALLMARK_CONNECTION` of the program under test.
    pub fn connection_file(&self) -> &Path {
        &self.ready.connection
    }

    /// The OAuth clients that it signs for.
    pub fn clients(&self) -> &[TestClient] {
        &self.ready.clients
    }

    /// Where an authorization server finds the client's JWKS; `None` for a client that is not there.
    pub fn jwks_url(&self, name: &str) -> Option<&str> {
        let client = self.ready.clients.iter().find(|client| client.name == name)?;
        Some(&client.jwks_url)
    }

    /// `https://127.0.0.1:port`, for clients in other languages.
    pub fn grpc(&self) -> &str {
        &self.ready.grpc
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Builder {
    /// Another binary than `$HALLMARK_BIN`.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = path.into();
        self
    }

    /// An OAuth client with one key line, instead of the one that `dev` brings. May be called several times.
    #[must_use]
    pub fn client(self, name: &str, alg: &str) -> Self {
        self.option("--client", format!("{name}:{alg}"))
    }

    /// The token endpoint of the authorization server under test: it becomes `aud`.
    #[must_use]
    pub fn token_endpoint(self, url: &str) -> Self {
        self.option("--token-endpoint", url.to_owned())
    }

    /// How long it may take to get ready. Default: 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn option(mut self, name: &str, value: String) -> Self {
        self.arguments.extend([name.into(), value.into()]);
        self
    }

    /// Starts it and waits until it can sign.
    pub fn start(self) -> Result<TestHallmark, StartError> {
        let mut process = Process::start(&self.binary, &self.arguments)?;
        let line = process.first_line(self.timeout)?;
        let ready = serde_json::from_str(&line).map_err(|source| StartError::Line { line, source })?;
        Ok(TestHallmark { process, ready })
    }
}

/// The line that `hallmark dev --json` prints when it can sign; what is not needed here is left out.
#[derive(Debug, Deserialize)]
struct Ready {
    grpc: String,
    connection: PathBuf,
    operator_connection: PathBuf,
    clients: Vec<TestClient>,
}
