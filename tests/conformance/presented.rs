//! Token requests as an authorization server gets them: those that Hallmark makes, and what they could be changed to.

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_proto::v1::{InstallCertificateRequest, KeyChoice, KeyState, ListKeysRequest, TokenRequest};
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use super::{
    keys::{self, Certificate, OWN, ToCertify},
    rules::{Iss, Keys, System},
    systems::SYSTEMS,
};
use crate::support::{PATIENCE, Server, Site, eventually, pki::Authority};

pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// One token request, and what the server knows when it comes.
#[derive(Clone)]
pub(super) struct Presented {
    pub(super) form: Vec<(String, String)>,
    /// What the JWKS URL answers, if it does.
    pub(super) jwks: Option<Value>,
    pub(super) registered: Registered,
    pub(super) now: i64,
    /// As decoded; [`Presented::seal`] makes an assertion of them.
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
}

/// What was registered of the client.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) client_id: String,
    pub(super) iss: String,
    /// As the algorithm of its assertions.
    pub(super) alg: String,
    pub(super) token_endpoint: String,
    pub(super) issuer: String,
    pub(super) jwks_url: String,
    pub(super) key: keys::Public,
    pub(super) certificate: Option<Certificate>,
    /// A CA's certificate, in DER.
    pub(super) authority: Vec<u8>,
}

/// What Hallmark made for each of [`SYSTEMS`], in their order. Made once for all tests.
pub(super) async fn by_hallmark() -> &'static [(&'static System, Presented)] {
    static MADE: OnceCell<Vec<(&'static System, Presented)>> = OnceCell::const_new();
    MADE.get_or_init(make).await
}

async fn make() -> Vec<(&'static System, Presented)> {
    let mut site = Site::new();
    let names: Vec<_> = SYSTEMS.iter().map(|system| format!("\"{}\"", system.profile)).collect();
    site.replace("clients = [\"demo\"", &format!("clients = [\"demo\", {}", names.join(", ")));
    SYSTEMS.iter().for_each(|system| _ = site.append(&section(system)));
    let server = site.start();
    server.ready().await;
    let mut made = Vec::new();
    for system in SYSTEMS {
        made.push((system, presented(system, &server, &site.ca).await));
    }
    server.stop().await;
    made
}

/// The client of a system. Its token endpoint is as awkward as real ones: a slash at the end, an upper-case letter.
fn section(system: &System) -> String {
    let profile = system.profile;
    let iss = if system.iss == Iss::Registered { "iss = \"https://monitoring.example/\"\n" } else { "" };
    let claims = r#"claims = { extensions = { hl7-b2b = { version = "1", organization_id = "https://clinic.example/org", purpose_of_use = ["urn:oid:2.16.840.1.113883.5.8#TREAT"] } } }"#;
    format!(
        "\n[[client]]\nname = \"{profile}\"\nclient_id = \"{}\"\nprofile = \"{profile}\"\n\
         token_endpoint = \"https://{profile}.example/OAuth2/token/\"\nissuer = \"https://{profile}.example/\"\n\
         hsm = [\"soft\"]\nprovision = \"auto\"\n{iss}{}\n",
        client_id(system),
        if system.b2b { claims } else { "" },
    )
}

/// SMART's bulk data server gives a whole JWT as `client_id`.
fn client_id(system: &System) -> String {
    match system.profile {
        "smart-bulk-data-server" => "x".repeat(1000),
        profile => format!("{profile}-id"),
    }
}

async fn presented(system: &'static System, server: &Server, ca: &Authority) -> Presented {
    let name = system.profile;
    let (_, authority) = x509_cert::der::pem::decode_vec(ca.pem.as_bytes()).unwrap();
    let what = format!("`{name}` has a key");
    let pem = eventually(&what, PATIENCE, async || {
        let answer = reqwest::get(server.jwks_url(name).replace("jwks.json", "public_key.pem")).await.unwrap();
        (answer.status() == 200).then_some(answer)
    });
    let key = keys::of_pem(&pem.await.text().await.unwrap());
    let mut certificate = None;
    if matches!(system.keys, Keys::Leaf | Keys::Uploaded(_)) {
        certificate = Certificate::read(&install(name, server, ca, &authority).await);
    }
    let signed = server.app().sign_for(name).await.unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
    let (header, claims) = decoded(&signed.assertion);
    let described = signed.token_request.unwrap();
    let registered = Registered {
        client_id: client_id(system),
        iss: "https://monitoring.example/".to_owned(),
        alg: signed.alg,
        token_endpoint: format!("https://{name}.example/OAuth2/token/"),
        issuer: format!("https://{name}.example/"),
        jwks_url: server.jwks_url(name),
        key,
        certificate,
        authority,
    };
    let jwks = Some(server.jwks_of(name).await);
    Presented { form: form(&described, &registered), jwks, registered, now: now(), header, claims }
}

/// What is posted, once it is seen that it is posted to the right place in the right way.
fn form(described: &TokenRequest, registered: &Registered) -> Vec<(String, String)> {
    assert_eq!((described.method.as_str(), &described.url), ("POST", &registered.token_endpoint));
    assert_eq!(described.content_type, "application/x-www-form-urlencoded");
    assert!(described.headers.iter().all(|header| !header.name.eq_ignore_ascii_case("authorization")));
    described.form.iter().map(|field| (field.name.clone(), field.value.clone())).collect()
}

/// Has the client's key certified, and the chain installed; gives the leaf.
async fn install(client: &str, server: &Server, ca: &Authority, authority: &[u8]) -> Vec<u8> {
    let request = ListKeysRequest { client: client.to_owned(), ..Default::default() };
    let keys = server.ops().keys().list_keys(request).await.unwrap().into_inner().keys;
    let active = keys.into_iter().find(|key| key.state() == KeyState::Active).unwrap();
    let leaf = ca.leaf_for(&ToCertify::of_spki(&active.spki));
    let text = str::to_owned;
    let request = InstallCertificateRequest {
        request_id: text(client),
        reason: text("test"),
        key: Some(KeyChoice { client: text(client), kid: active.kid, standby: false }),
        certificate_chain: vec![leaf.clone(), authority.to_vec()],
        force: false,
    };
    server.ops().keys().install_certificate(request).await.unwrap();
    leaf
}

impl Presented {
    /// The same with a key of the tests' own: from here on it can be changed.
    pub(super) fn by_own_key(&self, system: &System, ca: &Authority) -> Self {
        let mut own = self.clone();
        let kid = self.header.get("kid").and_then(Value::as_str).unwrap_or("k");
        own.jwks = Some(json!({"keys": [OWN.rsa(0, kid, own.alg())]}));
        own.registered.key = OWN.public(0);
        let (_, authority) = x509_cert::der::pem::decode_vec(ca.pem.as_bytes()).unwrap();
        own.registered.authority = authority;
        own.show_certificate(system, &ca.leaf_for(&OWN.to_certify(0)));
        own
    }

    /// Puts that certificate wherever this system's assertions show one, and registers it.
    pub(super) fn show_certificate(&mut self, system: &System, leaf: &[u8]) {
        let certificate = Certificate::read(leaf).unwrap();
        for member in ["x5t", "x5t#S256"].into_iter().filter(|member| system.keys == Keys::Uploaded(member)) {
            self.header.insert(member.to_owned(), certificate.thumbprint(member).into());
        }
        if system.keys == Keys::Leaf {
            let chain = [leaf, &self.registered.authority].map(|der| base64::prelude::BASE64_STANDARD.encode(der));
            self.header.insert("x5c".to_owned(), json!(chain));
        }
        self.registered.certificate = self.registered.certificate.is_some().then_some(certificate);
    }

    /// Of the form's fields of that name.
    pub(super) fn field(&self, name: &str) -> Vec<&str> {
        self.form.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(super) fn alg(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn head(&mut self, name: &str, value: impl Into<Value>) {
        self.header.insert(name.to_owned(), value.into());
    }

    pub(super) fn claim(&mut self, name: &str, value: impl Into<Value>) {
        self.claims.insert(name.to_owned(), value.into());
    }

    /// Moves a date.
    pub(super) fn shift(&mut self, name: &str, seconds: i64) {
        let date = self.claims.get(name).and_then(Value::as_i64).unwrap_or(self.now);
        self.claim(name, date + seconds);
    }

    /// The first key of the set.
    pub(super) fn jwk(&mut self) -> &mut Map<String, Value> {
        self.jwks.as_mut().unwrap()["keys"][0].as_object_mut().unwrap()
    }

    /// Signs header and claims with the tests' own key, and puts the assertion into the form.
    pub(super) fn seal(&mut self) {
        let part = |map: &Map<String, Value>| BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(map).unwrap());
        let signed = format!("{}.{}", part(&self.header), part(&self.claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(OWN.sign(self.alg(), &signed));
        for (_, value) in self.form.iter_mut().filter(|(name, _)| name == "client_assertion") {
            *value = format!("{signed}.{signature}");
        }
    }
}

fn decoded(assertion: &str) -> (Map<String, Value>, Map<String, Value>) {
    let mut parts = assertion.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut object = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (object(), object())
}

#[expect(clippy::disallowed_methods, reason = "the server's clock is the real one")]
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(now.as_secs()).unwrap()
}
