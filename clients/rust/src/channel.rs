//! The connection to Hallmark, made anew when certificates change on disk.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint as TonicEndpoint, Identity},
};

use crate::{Connection, Endpoint, Error};

/// Gives the channel for the next call. Calls under way keep the one they have.
#[derive(Debug)]
pub(crate) struct Channels {
    endpoint: Endpoint,
    /// For messages.
    address: String,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    channel: Channel,
    files: Vec<Stamp>,
    checked: Instant,
}

/// A channel whose calls show the token, if there is one.
pub(crate) type Link = InterceptedService<Channel, Token>;

/// Puts the token of a file into each call, as the file is then: it is replaced while we run.
#[derive(Clone, Debug)]
pub(crate) struct Token(Option<PathBuf>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(path) = &self.0 else { return Ok(request) };
        let unusable =
            |why: &str| Status::unauthenticated(format!("the file of the token {why}: `{}`", path.display()));
        let text = fs::read_to_string(path).map_err(|_| unusable("can't be read"))?;
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", text.trim()).parse().map_err(|_| unusable("holds no token"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// What tells one version of a file from the next: device, inode, size and the times of change.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

impl Channels {
    /// Reads the files; does not connect yet.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Error> {
        let endpoint = connection.endpoint.clone();
        let (channel, files) = build(&endpoint)?;
        let address = shown(&endpoint);
        Ok(Self { endpoint, address, current: Mutex::new(Current { channel, files, checked: Instant::now() }) })
    }

    /// Where Hallmark is to be, for messages: nothing secret is in it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Looks at the files, at most once in [`CHECK_EVERY`]. Where they changed into something that can't be used (one
    /// of two files is replaced, the other not yet), the channel stays as it is until they can.
    pub(crate) fn get(&self) -> Link {
        let token_file = match &self.endpoint {
            Endpoint::Bearer { token_file, .. } => Some(token_file.clone()),
            Endpoint::Tls { .. } | Endpoint::Unix(_) => None,
        };
        InterceptedService::new(self.channel(), Token(token_file))
    }

    fn channel(&self) -> Channel {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.checked.elapsed() >= CHECK_EVERY {
            current.checked = Instant::now();
            let changed = stamps(&self.endpoint).is_ok_and(|now| now != current.files);
            if changed && let Ok((channel, files)) = build(&self.endpoint) {
                (current.channel, current.files) = (channel, files);
            }
        }
        current.channel.clone()
    }

    /// The next call looks at the files: the server did not accept what we showed.
    pub(crate) fn doubt(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(past) = Instant::now().checked_sub(CHECK_EVERY) {
            current.checked = past;
        }
    }
}

/// A look costs three system calls, which each call would feel.
const CHECK_EVERY: Duration = Duration::from_secs(1);

fn build(endpoint: &Endpoint) -> Result<(Channel, Vec<Stamp>), Error> {
    // Taken before the files are read: a change in between is seen at the next look.
    let files = stamps(endpoint)?;
    let target = match endpoint {
        Endpoint::Unix(path) => target(format!("unix:{}", path.display()))?,
        Endpoint::Tls { url, ca, cert, key, server_name } => {
            let authority = authority(ca)?;
            let identity = Identity::from_pem(read(cert)?, read(key)?);
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)).identity(identity);
            if let Some(name) = server_name {
                tls = tls.domain_name(name);
            }
            let fail = |error| {
                let files = format!("can't use the certificate and its key: `{}`, `{}`", cert.display(), key.display());
                Error::connection(files).with_source(error)
            };
            target(url.clone())?.tls_config(tls).map_err(fail)?
        }
        Endpoint::Bearer { url, ca, server_name, .. } => {
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority(ca)?));
            if let Some(name) = server_name {
                tls = tls.domain_name(name);
            }
            let fail = |error| Error::connection(format!("can't use `ca`: `{}`", ca.display())).with_source(error);
            target(url.clone())?.tls_config(tls).map_err(fail)?
        }
    };
    Ok((target.connect_lazy(), files))
}

/// Without what may stand before an `@`: a connection needs no password, and no message shows one.
fn shown(endpoint: &Endpoint) -> String {
    let url = match endpoint {
        Endpoint::Unix(path) => return format!("unix:{}", path.display()),
        Endpoint::Tls { url, .. } | Endpoint::Bearer { url, .. } => url,
    };
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.clone(),
    }
}

fn authority(ca: &PathBuf) -> Result<String, Error> {
    let authority = String::from_utf8(read(ca)?).unwrap_or_default();
    if !authority.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Error::connection(format!("there is no certificate in `ca`: `{}`", ca.display())));
    }
    Ok(authority)
}

fn target(url: String) -> Result<TonicEndpoint, Error> {
    let fail = |error| Error::connection(format!("can't use the endpoint: `{url}`")).with_source(error);
    let target = TonicEndpoint::from_shared(url.clone()).map_err(fail)?;
    let target = target.user_agent(concat!("hallmark-client/", env!("CARGO_PKG_VERSION"))).map_err(fail)?;
    Ok(target
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        // A peer that vanished without a word is noticed before the next call has to.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true))
}

fn stamps(endpoint: &Endpoint) -> Result<Vec<Stamp>, Error> {
    match endpoint {
        Endpoint::Unix(_) => Ok(Vec::new()),
        Endpoint::Bearer { ca, .. } => stamp(ca).map(|stamp| vec![stamp]),
        Endpoint::Tls { ca, cert, key, .. } => [ca, cert, key].into_iter().map(|path| stamp(path)).collect(),
    }
}

fn stamp(path: &Path) -> Result<Stamp, Error> {
    let file = fs::metadata(path).map_err(|error| unreadable(path, error))?;
    Ok((file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()))
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::connection(format!("can't read a file of the connection: `{}`", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_a_password() {
        let of = |url: &str| {
            shown(&Endpoint::Bearer { url: url.into(), ca: "a".into(), token_file: "t".into(), server_name: None })
        };
        assert_eq!(of("https://hallmark.internal:7443"), "https://hallmark.internal:7443");
        assert_eq!(of("https://me:s3c@ret@hallmark.internal:7443"), "https://hallmark.internal:7443");
        assert_eq!(shown(&Endpoint::Unix("/run/h@me.sock".into())), "unix:/run/h@me.sock");
    }
}
