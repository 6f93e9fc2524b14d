//! `hallmark audit`, on the log of a real server.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::{HALLMARK, PATIENCE, Process, Site, audit_log, eventually};

pub(super) fn audit(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(HALLMARK).arg("audit").args(arguments).args(paths).current_dir("/").output().unwrap()
}

pub(super) fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A site whose server ran twice and stopped in order, with some signatures; and the custody keys, as an auditor has them.
async fn ran() -> (Site, PathBuf) {
    let mut site = Site::new();
    site.replace("clients = [\"demo\"]", "clients = [\"demo\", \"other\"]");
    site.append(
        "\n[[client]]\nname = \"other\"\nclient_id = \"o\"\ntoken_endpoint = \"https://as.example/o\"\nhsm = [\"soft\"]\n\
         keys = [{ alg = \"ES256\" }]\nprovision = \"auto\"\n",
    );
    for _ in 0..2 {
        let server = site.start();
        server.ready().await;
        for _ in 0..5 {
            server.app().sign_for("demo").await.unwrap();
        }
        eventually("the other client signs", PATIENCE, async || server.app().sign_for("other").await.ok()).await;
        server.stop().await;
    }
    let keys = audit(&["keys", "--config"], &[&site.write()]);
    assert!(keys.status.success());
    let path = site.folder().join("custody.pem");
    fs::write(&path, &keys.stdout).unwrap();
    (site, path)
}

fn log_files(site: &Site) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(site.audit_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

#[tokio::test]
async fn an_auditor_needs_the_log_and_the_custody_keys_alone() {
    let (site, keys) = ran().await;
    let (dir, keys) = (site.audit_dir(), keys.to_str().unwrap().to_owned());
    let verify = |more: &[&str]| audit(&[&["verify", "--custody-key", &keys, "--json"], more].concat(), &[&dir]);

    let whole = json_of(&verify(&[]));
    assert_eq!((&whole["whole"], &whole["proven"]), (&true.into(), &true.into()), "{whole:#}");
    let chain = &whole["chains"][0];
    let end = chain["end"]["seq"].as_u64().unwrap();
    let proven = chain["proven"]["place"]["seq"].as_u64().unwrap();
    assert!(end - proven <= 3, "the end has a checkpoint, and only what belongs to that is behind it: {chain:#}");
    assert_eq!(audit(&["verify"], &[&dir]).status.code(), Some(3), "without a key nothing is proven");

    // Each by itself: what a hand does to files.
    let files = log_files(&site);
    let original = fs::read(&files[0]).unwrap();
    let lines: Vec<Vec<u8>> = original.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let edit = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        fs::write(&files[0], lines.concat()).unwrap();
        let output = verify(&[]);
        fs::write(&files[0], &original).unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let found = json_of(&output)["chains"][0]["findings"].as_array().unwrap().clone();
        assert_eq!(found.len(), 1, "{found:#?}");
        (found[0]["kind"].as_str().unwrap().to_owned(), found[0]["first"].as_u64().unwrap())
    };
    assert_eq!(
        edit(&|lines| lines[4].iter_mut().rev().nth(5).into_iter().for_each(|byte| *byte ^= 1)),
        ("changed".into(), 5)
    );
    assert_eq!(edit(&|lines| drop(lines.remove(4))), ("dropped".into(), 5));
    assert_eq!(edit(&|lines| lines.insert(4, lines[3].clone())), ("duplicated".into(), 4));
    assert_eq!(edit(&|lines| lines.swap(4, 5)), ("swapped".into(), 5));
    assert_eq!(edit(&|lines| lines.truncate(lines.len() - 2)), ("dropped".into(), lines.len() as u64 - 1));

    // The end cut off, with the checkpoint that covers it: only who kept a head can tell.
    let seen = site.folder().join("seen.jsonl");
    assert_eq!(verify(&["--save", seen.to_str().unwrap()]).status.code(), Some(0));
    let last = fs::read(&files[1]).unwrap();
    let kept: Vec<_> = last.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(&files[1], kept[..3].concat()).unwrap();
    assert_eq!(verify(&[]).status.code(), Some(0), "the rest is proven");
    let cut = verify(&["--expect", seen.to_str().unwrap()]);
    assert_eq!(
        (cut.status.code(), json_of(&cut)["chains"][0]["findings"][0]["kind"].as_str()),
        (Some(1), Some("truncated"))
    );
    // A checkpoint that was shipped elsewhere does as well.
    let checkpoint =
        kept.iter().rev().find(|line| String::from_utf8_lossy(line).contains("\"checkpoint\",\"hsm\"")).unwrap();
    fs::write(&seen, checkpoint).unwrap();
    assert_eq!(verify(&["--expect", seen.to_str().unwrap()]).status.code(), Some(1));
    fs::write(&files[1], &last).unwrap();

    fs::remove_file(&files[0]).unwrap();
    let missing = verify(&[]);
    assert_eq!(json_of(&missing)["chains"][0]["findings"][0]["kind"], "dropped");
    assert_eq!(verify(&["--partial"]).status.code(), Some(0), "older files may be elsewhere");
}

#[tokio::test]
async fn a_part_of_the_log_goes_to_others_with_what_they_need() {
    let (site, keys) = ran().await;
    let (dir, keys) = (site.audit_dir(), keys.to_str().unwrap().to_owned());
    let part = site.folder().join("part.json");
    let out = part.to_str().unwrap();
    let export = |more: &[&str]| assert!(audit(&[&["export", "--out", out], more].concat(), &[&dir]).status.success());
    let verify = |paths: &[&Path]| audit(&["verify", "--json", "--custody-key", &keys, "--part", out], paths);

    // The first run, by its time: it goes on to the checkpoint that proves it.
    let second = fs::read_to_string(&log_files(&site)[1]).unwrap();
    let begun: Value = serde_json::from_str(second.lines().next().unwrap()).unwrap();
    let millis = u64::try_from(begun["time"].as_i64().unwrap()).unwrap();
    let to = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis);
    export(&["--to", &humantime::format_rfc3339_millis(to).to_string()]);
    let alone = verify(&[]);
    assert_eq!(alone.status.code(), Some(0), "{}", text(&alone));
    assert!(
        json_of(&alone)["chains"][0]["proven"]["place"]["seq"].as_u64().unwrap() >= begun["seq"].as_u64().unwrap() - 1
    );

    // One client's records: whole against the log, and not by themselves.
    export(&["--client", "other"]);
    let exported = fs::read_to_string(&part).unwrap();
    assert!(exported.contains("\\\"client\\\":\\\"other\\\"") && !exported.contains("\\\"client\\\":\\\"demo\\\""));
    assert_eq!(verify(&[]).status.code(), Some(3));
    assert_eq!(verify(&[&dir]).status.code(), Some(0));
    fs::write(&part, exported.replacen("\\\"outcome\\\":\\\"done\\\"", "\\\"outcome\\\":\\\"failed\\\"", 1)).unwrap();
    assert_eq!(verify(&[]).status.code(), Some(1));
    assert_eq!(verify(&[&dir]).status.code(), Some(1));

    export(&["--client", "other", "--format", "csv"]);
    let csv = fs::read_to_string(&part).unwrap();
    assert!(csv.starts_with("instance,seq,time,event,who,client,") && csv.lines().count() >= 5, "{csv}");
}

#[tokio::test]
async fn the_last_records_are_shown_and_those_that_come() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let dir = site.audit_dir();
    let mut tail = Process::start("tail", site.folder(), HALLMARK, |command| {
        command.args(["audit", "tail", "-f", "-n", "3", "--client", "demo", "--kind", "assertion", "--json"]).arg(&dir);
    });
    let signed = server.app().sign_for("demo").await.unwrap();
    let (line, lines) = (signed.jti.clone(), tail.take_lines());
    let shown = tokio::task::spawn_blocking(move || {
        let end = std::time::Instant::now() + PATIENCE;
        while let Ok(shown) = lines.recv_timeout(end.saturating_duration_since(std::time::Instant::now())) {
            let record: Value = serde_json::from_str(&shown).unwrap();
            assert!(record["event"] == "sign-outcome" || record["kind"] == "assertion", "{shown}");
            if record["jti"] == line.as_str() {
                return true;
            }
        }
        false
    });
    assert!(shown.await.unwrap(), "what is signed is shown");
    let shown = text(&audit(&["tail", "-n", "2", "--kind", "start"], &[&dir]));
    assert!(shown.lines().count() == 1 && shown.contains(" test 1 start"), "{shown}");
    let unknown = audit(&["tail", "--kind", "assertoin"], &[&dir]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(64) && said.contains("assertion") && said.contains("refused"), "{said}");
    server.stop().await;
    // Whatever a log holds can be asked for.
    let records = audit_log::read(&dir, "test");
    let kinds = records.iter().flat_map(|record| [&record["event"], &record["kind"]]).filter_map(Value::as_str);
    for kind in kinds.collect::<BTreeSet<_>>() {
        let shown = text(&audit(&["tail", "--kind", kind], &[&dir]));
        assert!(!shown.is_empty(), "{kind}");
    }
    assert!(audit(&["tail"], &[Path::new("/nonexistent")]).status.code() == Some(1));
}
