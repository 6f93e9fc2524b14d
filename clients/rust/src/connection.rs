//! Where Hallmark is, and how this side shows who it is.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::Error;

/// Where Hallmark is, and how this side shows who it is.
///
/// As a file (TOML; relative paths start from the file's own folder):
///
/// ```toml
/// endpoint = "https://hallmark.internal:7443"
/// ca = "ca.pem"
/// cert = "workload.pem"
/// key = "workload-key.pem"
/// ```
///
/// In place of `cert` and `key` there may be `bearer_token_file`, the file of a token that Hallmark takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub endpoint: Endpoint,
    /// A PEM bundle of CAs that authorization servers' certificates may chain to, beside the system's own.
    pub token_endpoint_ca: Option<PathBuf>,
}

/// The ways to Hallmark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// TLS with a client certificate. All files are PEM, and are read anew when they change.
    Tls {
        /// `https://host:port`
        url: String,
        ca: PathBuf,
        cert: PathBuf,
        key: PathBuf,
        /// The name in the server's certificate, where it is not the URL's host.
        server_name: Option<String>,
    },
    /// TLS without a client certificate: a token in a file says who this side is, read anew for each call.
    Bearer {
        /// `https://host:port`
        url: String,
        ca: PathBuf,
        token_file: PathBuf,
        /// The name in the server's certificate, where it is not the URL's host.
        server_name: Option<String>,
    },
    /// A Unix socket: Hallmark knows this side by its uid.
    Unix(PathBuf),
}

/// Names the file for [`Connection::from_env`].
pub const CONNECTION_VARIABLE: &str = "HALLMARK_CONNECTION";

impl Connection {
    /// TLS with a client certificate; `url` is `https://host:port`.
    pub fn tls(
        url: impl Into<String>,
        ca: impl Into<PathBuf>,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        let (url, ca, cert, key) = (url.into(), ca.into(), cert.into(), key.into());
        Self { endpoint: Endpoint::Tls { url, ca, cert, key, server_name: None }, token_endpoint_ca: None }
    }

    /// TLS with a bearer token; `url` is `https://host:port`.
    pub fn bearer(url: impl Into<String>, ca: impl Into<PathBuf>, token_file: impl Into<PathBuf>) -> Self {
        let (url, ca, token_file) = (url.into(), ca.into(), token_file.into());
        Self { endpoint: Endpoint::Bearer { url, ca, token_file, server_name: None }, token_endpoint_ca: None }
    }

    /// A Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { endpoint: Endpoint::Unix(path.into()), token_endpoint_ca: None }
    }

    /// Reads a connection file. An unknown key is an error. No error shows what the file holds: by mistake a path may lead
    /// to a PIN or to a token.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let fail = |text: &str| Error::connection(format!("{text} the connection file: `{}`", path.display()));
        let text = fs::read_to_string(path).map_err(|error| fail("can't read").with_source(error))?;
        let file: File =
            toml::from_str(&text).map_err(|error| fail("can't use").with_source(Problem::toml(&text, &error)))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        file.resolve(folder).map_err(|problem| fail("can't use").with_source(problem))
    }

    /// Reads the connection file that `HALLMARK_CONNECTION` names.
    pub fn from_env() -> Result<Self, Error> {
        match env::var_os(CONNECTION_VARIABLE) {
            Some(path) if !path.is_empty() => Self::from_file(PathBuf::from(path)),
            _ => Err(Error::connection(format!("{CONNECTION_VARIABLE} is not set: it names the connection file"))),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    endpoint: String,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    bearer_token_file: Option<PathBuf>,
    server_name: Option<String>,
    token_endpoint_ca: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("`{0}` is missing: an https endpoint needs `ca`, and `cert` and `key` or `bearer_token_file`")]
    Missing(&'static str),
    #[error("`{0}` has no meaning beside `bearer_token_file`: a certificate would count, and no token")]
    BesideToken(&'static str),
    #[error("`{0}` has no meaning with a Unix socket")]
    Needless(&'static str),
    #[error("the endpoint is neither `https://host:port` nor `unix:/path`: `{0}`")]
    Endpoint(String),
    #[error("line {line}: {what}")]
    Toml { line: usize, what: String },
}

impl Problem {
    /// What is wrong with `text`, and where. `toml`'s own message goes on with the line itself.
    fn toml(text: &str, error: &toml::de::Error) -> Self {
        let offset = error.span().map_or(text.len(), |span| span.start);
        let line = 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let what = match error.message().split_once(", expected ") {
            // In between stands the value.
            Some((said, expected)) if said.starts_with("invalid type") || said.starts_with("invalid value") => {
                format!("this must be {expected}")
            }
            _ => error.message().trim_end().replace('\n', "; "),
        };
        Self::Toml { line, what }
    }
}

impl File {
    fn resolve(self, folder: &Path) -> Result<Connection, Problem> {
        let token_endpoint_ca = self.token_endpoint_ca.map(|path| folder.join(path));
        let file = |name, path: Option<PathBuf>| path.map(|path| folder.join(path)).ok_or(Problem::Missing(name));
        let endpoint = if let Some(path) = self.endpoint.strip_prefix("unix:") {
            let token = ("bearer_token_file", &self.bearer_token_file);
            let given = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key), token];
            if let Some((name, _)) = given.into_iter().find(|(_, path)| path.is_some()) {
                return Err(Problem::Needless(name));
            }
            if self.server_name.is_some() {
                return Err(Problem::Needless("server_name"));
            }
            Endpoint::Unix(folder.join(path.strip_prefix("//").unwrap_or(path)))
        } else if let (true, Some(token)) = (self.endpoint.starts_with("https://"), self.bearer_token_file) {
            if let Some(name) = self.cert.map(|_| "cert").or(self.key.map(|_| "key")) {
                return Err(Problem::BesideToken(name));
            }
            let (ca, token_file) = (file("ca", self.ca)?, folder.join(token));
            Endpoint::Bearer { url: self.endpoint, ca, token_file, server_name: self.server_name }
        } else if self.endpoint.starts_with("https://") {
            let (ca, cert, key) = (file("ca", self.ca)?, file("cert", self.cert)?, file("key", self.key)?);
            Endpoint::Tls { url: self.endpoint, ca, cert, key, server_name: self.server_name }
        } else {
            return Err(Problem::Endpoint(self.endpoint));
        };
        Ok(Connection { endpoint, token_endpoint_ca })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn read(text: &str) -> Result<Connection, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("connection.toml");
        fs::write(&path, text).expect("the file is written");
        let relative = |path: PathBuf| path.strip_prefix(folder.path()).map(Path::to_owned).unwrap_or(path);
        let connection = Connection::from_file(&path).map_err(|error| error.source().expect("a cause").to_string())?;
        let endpoint = match connection.endpoint {
            Endpoint::Tls { url, ca, cert, key, server_name } => {
                Endpoint::Tls { url, ca: relative(ca), cert: relative(cert), key: relative(key), server_name }
            }
            Endpoint::Bearer { url, ca, token_file, server_name } => {
                Endpoint::Bearer { url, ca: relative(ca), token_file: relative(token_file), server_name }
            }
            Endpoint::Unix(path) => Endpoint::Unix(relative(path)),
        };
        Ok(Connection { endpoint, ..connection })
    }

    #[test]
    fn paths_start_from_the_files_folder() {
        let tls = "endpoint = 'https://h:1'\nca = 'ca.pem'\ncert = '/etc/c.pem'\nkey = 'k.pem'";
        assert_eq!(read(tls), Ok(Connection::tls("https://h:1", "ca.pem", "/etc/c.pem", "k.pem")));
        let token = "endpoint = 'https://h:1'\nca = 'ca.pem'\nbearer_token_file = '/run/token'";
        assert_eq!(read(token), Ok(Connection::bearer("https://h:1", "ca.pem", "/run/token")));
        assert_eq!(read("endpoint = 'unix:run/h.sock'"), Ok(Connection::unix("run/h.sock")));
        assert_eq!(read("endpoint = 'unix:///run/h.sock'"), Ok(Connection::unix("/run/h.sock")));
    }

    #[test]
    fn what_can_not_be_meant_is_an_error() {
        let told = |text: &str, expected: &str| {
            let error = read(text).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        told("endpoint = 'https://h:1'\nca = 'ca.pem'", "`cert` is missing");
        told("endpoint = 'http://h:1'", "neither");
        told("endpoint = 'https://h:1'\nca = 'a'\ncert = 'c'\nbearer_token_file = 't'", "no meaning beside");
        told("endpoint = 'unix:/run/h.sock'\nkey = 'k.pem'", "`key` has no meaning");
        told("endpoint = 'unix:/run/h.sock'\ncerts = 'k.pem'", "unknown field `certs`");
    }
    #[test]
    fn no_error_shows_what_the_file_holds() {
        let (pin, token) = ("87654321", "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl");
        let text = |line: &str| format!("endpoint = 'https://h:1'\n{line}\n");
        let cases = [
            (pin.to_owned(), "line 1: "),
            (format!("{pin}\n"), "line 1: "),
            (format!("{token}\n"), "line 1: "),
            (text(&format!("bearer_token = '{token}'")), "line 2: unknown field `bearer_token`"),
            (text(&format!("bearer_token_file = {pin}")), "line 2: this must be "),
            (text(&format!("bearer_token_file = '{token}")), "line 2: "),
            (text(&format!("bearer_token_file = {token}")), "line 2: "),
            (text(&format!("server_name = ['{pin}']")), "line 2: this must be "),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        for (text, expected) in cases {
            let path = folder.path().join("pin");
            fs::write(&path, &text).expect("the file is written");
            let error = Connection::from_file(&path).expect_err("refused");
            let cause = error.source().expect("a cause").to_string();
            assert!(cause.contains(expected), "{cause}");
            let all = format!("{error} {error:?} {cause}");
            assert!(!all.contains(pin) && !all.contains("eyJ") && !all.contains("c2ln"), "{all}");
        }
    }
}
