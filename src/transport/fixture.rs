//! What the tests of the fronts share: authorities, a clock that stands still, a listener on loopback, raw requests.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hallmark_core::{policy::Roles, ports::Clock, time::Timestamp};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    identity::{Scope, TrustSpec, Trusts},
    listener::{Callers, Limits, Listener, Peer, Protocol, Socket},
    reload::Reloading,
    tls::{self, PeerCertificates, TlsSpec},
};
use crate::telemetry::Metrics;

const LONG: Duration = Duration::from_secs(60);

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000); // January 2027

#[derive(Debug)]
pub(super) struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

pub(super) fn params(sans: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.subject_alt_names = sans.to_vec();
    params
}

pub(super) fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(super) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(super) fn root(name: &str) -> Ca {
    CertifiedIssuer::self_signed(ca_params(name), KeyPair::generate().unwrap()).unwrap()
}

pub(super) fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

pub(super) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// A certificate from `ca`, and its key.
pub(super) fn certified(ca: &Ca, sans: &[SanType]) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (params(sans).signed_by(&key, ca).unwrap().der().clone(), key)
}

/// A folder with what a server needs: `server.pem`, `server.key`, and `trust.pem` for the trust domain `a.example`.
pub(super) struct Files {
    pub(super) folder: tempfile::TempDir,
    pub(super) ca: Ca,
}

impl Files {
    pub(super) fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), ca: root("ca") };
        files.write_server();
        std::fs::write(files.path("trust.pem"), files.ca.pem()).unwrap();
        files
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new certificate and key for the server.
    pub(super) fn write_server(&self) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(&[dns("localhost")]).signed_by(&key, &self.ca).unwrap();
        std::fs::write(self.path("server.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("server.key"), key.serialize_pem()).unwrap();
    }

    pub(super) fn tls(
        &self,
        peer_certificates: PeerCertificates,
        metrics: &Metrics,
    ) -> Arc<Reloading<rustls::ServerConfig>> {
        let spec = TlsSpec { cert: self.path("server.pem"), key: self.path("server.key"), peer_certificates };
        tls::follow("server", spec, metrics.reload("server")).unwrap()
    }

    pub(super) fn trusts(&self, metrics: &Metrics) -> Arc<Reloading<Trusts>> {
        let bundle = self.path("trust.pem");
        let scope = Scope::TrustDomain("a.example".into());
        let roles = Roles { workload: true, operator: false };
        let specs = [TrustSpec { bundle: bundle.clone(), scope, roles }];
        Reloading::new("trust", vec![bundle], move || Trusts::load(&specs), metrics.reload("trust")).unwrap()
    }

    /// A client's configuration that trusts this server and shows `identity`.
    pub(super) fn client(&self, identity: Option<(CertificateDer<'static>, KeyPair)>) -> ClientConfig {
        let builder = self.client_builder();
        match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        }
    }

    pub(super) fn client_builder(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(roots)
    }
}

/// A listener for HTTP without TLS on a free port, to be changed before it serves.
pub(super) async fn plain(metrics: &Metrics) -> Listener {
    Listener {
        socket: Socket::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap(),
        tls: None,
        callers: Callers::Anyone,
        protocol: Protocol::Http,
        // Longer than any test waits: what ends a connection is what the test is about.
        limits: Limits { grace: LONG, header_timeout: LONG, ..Limits::http() },
        clock: Arc::new(Still),
        metrics: metrics.listener("test"),
    }
}

/// A server that runs until told to drain.
pub(super) struct Running {
    pub(super) addr: SocketAddr,
    pub(super) drain: CancellationToken,
    pub(super) served: JoinHandle<()>,
}

/// Serves with a service that says who calls.
pub(super) fn whoami(listener: Listener) -> Running {
    run(listener, |peer| {
        let peer = Arc::clone(peer);
        hyper::service::service_fn(move |request: Request<Incoming>| {
            assert!(Arc::ptr_eq(request.extensions().get::<Arc<Peer>>().unwrap(), &peer));
            let name = match &peer.caller {
                Ok(caller) => caller.identity.to_string(),
                Err(error) => error.reason.code().to_owned(),
            };
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(name)))))
        })
    })
}

pub(super) fn run<F, S>(listener: Listener, services: F) -> Running
where
    F: Fn(&Arc<Peer>) -> S + Send + Sync + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<Full<Bytes>>> + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<super::listener::BoxError>,
{
    let addr = listener.socket.addr().unwrap_or_else(|| "0.0.0.0:0".parse().unwrap());
    let drain = CancellationToken::new();
    let served = tokio::spawn(listener.serve(services, drain.clone()));
    Running { addr, drain, served }
}

pub(super) async fn connect_tls(addr: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

/// One HTTP/1.1 exchange on an open stream: the whole answer, as text.
pub(super) async fn exchange<S>(stream: &mut S, method: &str, path: &str, more: &str) -> std::io::Result<String>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = header(head, "content-length").and_then(|length| length.parse::<usize>().ok());
        let no_body = method == "HEAD" || head.contains(" 304 ");
        if no_body || body.len() >= length.unwrap_or_default() {
            return Ok(text.into_owned());
        }
    }
}

/// The value of a header in an answer.
pub(super) fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find_map(|(field, value)| field.eq_ignore_ascii_case(name).then_some(value))
}

/// Waits for the other side to close.
pub(super) async fn closed<S: AsyncReadExt + Unpin>(stream: &mut S) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    let _ = end.expect("the server should have closed the connection");
}
