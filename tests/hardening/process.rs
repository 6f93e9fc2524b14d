//! What the process does by itself, whoever starts it.

use std::{fs, process::Command};

use crate::support::{HALLMARK, PATIENCE, Process, Server, Site, eventually, root::is_root};

/// A line of `/proc/PID/status`.
fn status(server: &Server, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/status", server.process.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no `{name}` in:\n{text}")).trim().to_owned()
}

#[tokio::test]
async fn a_server_gives_up_what_it_can() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let pid = server.process.pid();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{cores}");
    assert_eq!(status(&server, "NoNewPrivs"), "1");
    // What binds low ports is kept where it was given; nothing else is.
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let capabilities = u64::from_str_radix(&status(&server, set), 16).unwrap();
        assert_eq!(capabilities & !(1 << 10), 0, "{set}: {capabilities:x}");
    }
    assert_eq!(status(&server, "Umask"), "0077");
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let text = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(text.contains("NoNewPrivs:\t1") && text.contains("CapEff:\t0000000000000"), "{text}");
    }
    for measure in ["core-dumps-off", "not-dumpable", "no-new-privileges", "no-capabilities", "memory-locked"] {
        let series = format!("hallmark_hardening{{measure=\"{measure}\"}}");
        assert_eq!(server.metric(&series).await, 1.0, "{measure}");
    }
    assert!(server.log().contains("hardening"), "{}", server.log());
    // A socket for callers of other users all the same.
    let mode =
        |path: &std::path::Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
    assert_eq!(mode(&server.unix) & 0o777, 0o666);
    assert_eq!(mode(&site.folder().join("keys.db")) & 0o077, 0);
    server.stop().await;
}

/// The memory of a server is not for whoever else runs as its user.
#[tokio::test]
async fn nobody_of_the_same_user_looks_into_its_memory() {
    let site = Site::new();
    let server = site.start();
    let plain = ["--bounding-set", "-all", "--", "cat"];
    let other = Process::start("other", site.folder(), "setpriv", |command| _ = command.args(plain));
    let look = |pid: u32| {
        // Without capabilities: root's would open everything.
        let script = format!("head -c 1 /proc/{pid}/environ");
        Command::new("setpriv").args(["--bounding-set", "-all", "--", "sh", "-c", &script]).output().unwrap()
    };
    eventually("another process of the same user can be looked at", PATIENCE, async || {
        look(other.pid()).status.success().then_some(())
    })
    .await;
    assert!(!look(server.process.pid()).status.success());
}

#[test]
fn it_does_not_serve_as_root_unless_told_to() {
    if !is_root("be refused for being root") {
        return;
    }
    let site = Site::new();
    let config = site.write();
    let mut command = Command::new(HALLMARK);
    let output = command.args(["serve", "--config"]).arg(config).env_remove("HALLMARK_ALLOW_ROOT").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("does not serve as root") && said.contains("--allow-root"), "{said}");
}
