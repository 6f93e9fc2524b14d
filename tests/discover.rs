//! `hallmark discover` against a server whose documents have the quirks of real ones.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use crate::support::{HALLMARK, Site};

/// Answers by path, and keeps which paths were asked for.
struct Documents {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Documents {
    /// `answer` gives status, further headers and body; it is told the server's own address.
    fn serve(answer: impl Fn(&str, &str) -> (u16, String, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (own, seen, answer) = (address.clone(), asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (own, seen, answer) = (own.clone(), seen.clone(), answer.clone());
                std::thread::spawn(move || respond(stream, &own, &seen, &*answer));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn respond(
    stream: TcpStream,
    own: &str,
    seen: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str, &str) -> (u16, String, String),
) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(path) = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)) else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    seen.lock().unwrap().push(path.clone());
    let (status, headers, body) = answer(own, &path);
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    // Whoever has read enough goes away.
    let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body.as_bytes()));
}

fn discover(url: &str, more: &[&str]) -> Output {
    Command::new(HALLMARK).args(["discover", url]).args(more).current_dir("/").output().unwrap()
}

#[test]
fn the_section_works_and_keeps_every_byte() {
    let server = Documents::serve(|own, path| match path {
        "/fhir/.well-known/smart-configuration" => (302, format!("location: http://{own}/smart\r\n"), String::new()),
        "/smart" => {
            let body = format!(
                r#"{{"issuer": "", "token_endpoint": "http://{own}//webchart.cgi/a/../%7eoauth/token/",
                "token_endpoint_auth_signing_alg_values_supported": "RS384"}}"#
            );
            (200, String::new(), body)
        }
        "/fhir/metadata" => (200, String::new(), "<CapabilityStatement/>".to_owned()),
        _ => (404, String::new(), "{\"error\": \"none\"}".to_owned()),
    });
    let found = discover(&format!("http://{}/fhir/", server.address), &["--name", "chart"]);
    let (section, said) = (String::from_utf8(found.stdout).unwrap(), String::from_utf8(found.stderr).unwrap());
    assert_eq!(found.status.code(), Some(0), "{said}");
    let endpoint = format!("http://{}//webchart.cgi/a/../%7eoauth/token/", server.address);
    assert!(section.contains(&format!("token_endpoint = \"{endpoint}\"")), "{section}");
    assert!(said.contains("ends with a slash"), "{said}");

    let mut site = Site::new();
    site.append(&section.replace("hsm = [\"main\"]", "hsm = [\"soft\"]"));
    let checked = site.check();
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn no_other_host_is_contacted() {
    let other =
        Documents::serve(|_, _| (200, String::new(), "{\"token_endpoint\": \"http://evil.example/t\"}".to_owned()));
    let elsewhere = other.address.clone();
    let server = Documents::serve(move |own, path| match path {
        "/.well-known/smart-configuration" => (302, format!("location: http://{elsewhere}/x\r\n"), String::new()),
        // Round and round.
        "/.well-known/openid-configuration" => (302, format!("location: http://{own}{path}\r\n"), String::new()),
        _ => (404, String::new(), String::new()),
    });
    let found = discover(&format!("http://{}", server.address), &["--json"]);
    assert_eq!(found.status.code(), Some(1), "nothing was found");
    let said: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(said["documents"][0]["why_not"], "answers 302");
    assert_eq!(other.asked(), [] as [&str; 0]);
    let rounds = server.asked().iter().filter(|path| path.contains("openid")).count();
    assert_eq!(rounds, 4, "{:?}", server.asked());
}

#[test]
fn endless_documents_are_not_read_to_their_end() {
    let server = Documents::serve(|_, _| (200, String::new(), " ".repeat(9 * 1024 * 1024)));
    let found = discover(&format!("http://{}", server.address), &["--json"]);
    let said: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(said["documents"][0]["why_not"], "is larger than 8388608 bytes");
}
