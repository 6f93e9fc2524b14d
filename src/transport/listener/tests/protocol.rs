//! What is spoken, and what is not.

use std::io::ErrorKind;

use super::*;

#[tokio::test]
async fn grpc_ports_speak_http2_over_tls() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let listener = Listener { protocol: Protocol::Http2, limits: Limits::grpc(), ..secured(&files, &metrics).await };
    let server = whoami(listener);
    let (certificate, key) = certified(&files.ca, &[uri("spiffe://a.example/x")]);
    let pem = x509_cert::der::pem::encode_string("CERTIFICATE", x509_cert::der::pem::LineEnding::LF, &certificate);
    let identity = reqwest::Identity::from_pem((pem.unwrap() + &key.serialize_pem()).as_bytes()).unwrap();
    let ca = reqwest::Certificate::from_pem(files.ca.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).identity(identity).build().unwrap();
    let url = format!("https://localhost:{}/", server.addr.port());
    let client = client.get(url).send();
    let answer = client.await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "spiffe://a.example/x");
}

#[tokio::test]
async fn rubbish_harms_nobody() {
    let metrics = Metrics::new();
    let mut listener = plain(&metrics).await;
    listener.protocol = Protocol::Http2;
    let server = whoami(listener);
    for rubbish in [
        &b"\0\0\0\0\0\0\0\0"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\0\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x09\0\0\0\0\x01\0",
    ] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(rubbish).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(LATE, stream.read_to_end(&mut rest)).await.expect("closed");
    }
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    assert!(client.get(format!("http://{}/", server.addr)).send().await.is_ok());
}

#[test]
fn trouble_of_one_connection_is_not_ours() {
    assert!(is_of_one_connection(&ErrorKind::ConnectionAborted.into()));
    for ours in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOMEM] {
        assert!(!is_of_one_connection(&ours.into()), "{ours}");
    }
}
