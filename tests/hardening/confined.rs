//! The service under what its unit allows: the system calls, a user without rights, and a file system that is read-only.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use hallmark_proto::v1::RotateKeysRequest;
use hallmark_testkit::p11_kit::P11Kit;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::unit::{UNIT, allowed, values};
use crate::support::{PATIENCE, Server, Site, caller, eventually, faketime::are_installed};

/// Debian's, for which the seccomp library is packaged.
const PYTHON: &str = "/usr/bin/python3";

/// Whether the parts are there; says which is not.
fn can_run() -> bool {
    are_installed(&["systemd-analyze", "bwrap"]) && has_library() && may_make_namespaces()
}

fn has_library() -> bool {
    let found = Command::new(PYTHON).args(["-c", "import seccomp"]).output().is_ok_and(|out| out.status.success());
    not_run(found, "Debian's `python3-seccomp` is not installed")
}

/// Some containers do not let anybody.
fn may_make_namespaces() -> bool {
    let tried = Command::new("bwrap").args(["--unshare-user", "--ro-bind", "/", "/", "true"]).output().unwrap();
    not_run(tried.status.success(), "this machine does not let bwrap make a namespace")
}

fn not_run(found: bool, why: &str) -> bool {
    if !found {
        eprintln!("not run: {why}\nhint: make setup");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
    }
    found
}

/// Writes the filters of the unit into `folder`.
fn write_filters(folder: &Path) {
    let unit = fs::read_to_string(UNIT).unwrap();
    let families: Vec<_> =
        values(&unit, "RestrictAddressFamilies").iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect();
    for (setting, wanted) in
        [("MemoryDenyWriteExecute", "yes"), ("RestrictNamespaces", "yes"), ("SystemCallErrorNumber", "EPERM")]
    {
        assert_eq!(values(&unit, setting), [wanted], "the filters that are tested are those of the unit");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hardening/filters.py");
    let mut command = Command::new(PYTHON);
    let mut python = command.arg(script).arg(folder).stdin(Stdio::piped()).spawn().unwrap();
    let said = json!({ "allowed": allowed(&unit), "families": families });
    python.stdin.take().unwrap().write_all(said.to_string().as_bytes()).unwrap();
    assert!(python.wait().unwrap().success());
}

/// The start of a command line: everything is read-only but `folders`; no devices, no capabilities, uid 1000.
fn sandbox(folders: &[&Path], filters: Option<&Path>) -> String {
    let binds: String = folders.iter().map(|folder| format!(" --bind {0} {0}", folder.display())).collect();
    let (options, files) = match filters {
        Some(folder) => {
            let folder = folder.display();
            // A plain shell knows descriptors of one digit.
            let files = [(6, 1), (7, 2), (8, 3)].map(|(fd, number)| format!(" {fd}<{folder}/{number}.bpf"));
            (" --add-seccomp-fd 6 --add-seccomp-fd 7 --add-seccomp-fd 8", files.concat())
        }
        None => Default::default(),
    };
    format!(
        "exec bwrap --die-with-parent --unshare-user --uid 1000 --gid 1000 --cap-drop ALL --ro-bind / / \
         --dev /dev{binds}{options} \"$@\"{files}"
    )
}

fn leak(words: Vec<String>) -> &'static [&'static str] {
    let words: Vec<&'static str> = words.into_iter().map(|word| &*word.leak()).collect();
    words.leak()
}

/// Of the service itself: bwrap waits for it, and ends as it does.
fn service(site: &Site) -> Pid {
    let info = fs::read_to_string(site.folder().join("bwrap.json")).unwrap();
    let info: Value = serde_json::from_str(&info).unwrap();
    Pid::from_raw(info["child-pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
}

/// Rotates and signs with the new key.
async fn rotate(server: &Server) {
    let before = server.app().sign_for("demo").await.unwrap().kid;
    let (request_id, reason, client) = ("r1".to_owned(), "drill".to_owned(), "demo".to_owned());
    let request = RotateKeysRequest { request_id, reason, client, force: true, ..Default::default() };
    server.ops().keys().rotate_keys(request).await.unwrap();
    eventually("the new key signs", PATIENCE, async || {
        server.app().sign_for("demo").await.ok().filter(|signed| signed.kid != before)
    })
    .await;
    eventually("a new standby is made", PATIENCE, async || {
        (server.jwks_of("demo").await["keys"].as_array().unwrap().len() == 3).then_some(())
    })
    .await;
}

/// Start, keys, signatures, a rotation, an HSM that goes and comes back, a reload, and the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_works_with_what_its_unit_allows() {
    if !can_run() {
        return;
    }
    let mut site = Site::new();
    // See hsm-config/p11-kit.md: with more, a call may never return when the server dies.
    site.replace("workers = 2", "workers = 1");
    site.through(&P11Kit::module(), &P11Kit::env(&site.token));
    write_filters(site.folder());
    let folders = [site.folder(), site.token.folder()];
    let info = format!(" 9>{}/bwrap.json", site.folder().display());
    let script = sandbox(&folders, Some(site.folder())).replace(" \"$@\"", " --info-fd 9 \"$@\"") + &info;
    site.under(leak(vec!["sh".into(), "-c".into(), script, "sh".into()]));
    let mut line = P11Kit::new(&site.token);
    line.start();
    // Neither root nor allowed to be.
    let mut server = site.start_with(|command| _ = command.env_remove("HALLMARK_ALLOW_ROOT"));
    server.ready().await;
    let (_, metrics) = server.health("/metrics").await;
    let missing: Vec<_> =
        metrics.lines().filter(|l| l.starts_with("hallmark_hardening{") && !l.ends_with(" 1")).collect();
    assert!(metrics.contains("hallmark_hardening{") && missing.is_empty(), "{missing:?}");

    rotate(&server).await;
    line.kill();
    let app = server.app();
    let within = || caller::within(Duration::from_secs(5), caller::for_client("demo"));
    eventually("the HSM is away", PATIENCE, async || app.sign(within()).await.err()).await;
    line.start();
    eventually("it is back", PATIENCE, async || app.sign(within()).await.ok()).await;

    let pid = service(&site);
    kill_process(pid, Signal::HUP).unwrap();
    server.process.wait_for_log("configuration taken");
    app.sign_for("demo").await.unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let mut process = server.process;
    let status = tokio::task::spawn_blocking(move || process.wait(PATIENCE)).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

/// The filters are those that the test above ran with.
#[test]
fn what_a_service_has_no_need_of_is_refused() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_filters(folder.path());
    let tries = |filters| -> Value {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hardening/refused.py");
        let sandbox = sandbox(&[folder.path()], filters);
        let output = Command::new("sh").args(["-c", &sandbox, "sh", PYTHON, script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (free, confined) = (tries(None), tries(Some(folder.path())));
    let (allowed, refused): (Vec<_>, Vec<_>) =
        confined.as_object().unwrap().iter().partition(|(_, errno)| **errno == 0);
    assert_eq!(allowed.len(), 3, "{confined}");
    assert_eq!(refused.len(), 7, "{confined}");
    let (eperm, eafnosupport) = (json!(1), json!(97));
    for (call, errno) in refused {
        let expected = if call.starts_with("socket") { &eafnosupport } else { &eperm };
        assert_eq!(errno, expected, "{call}");
    }
    let by_the_filter = free.as_object().unwrap().values().filter(|errno| **errno == 0).count();
    assert!(by_the_filter >= 8, "it is the filter that refuses: {free}");
}
