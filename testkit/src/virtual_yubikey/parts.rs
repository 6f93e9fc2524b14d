//! What a virtual YubiKey needs of the machine.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::geteuid;

/// All that is needed, found.
pub(super) struct Parts {
    /// The card, and the desk that it lies on.
    pub(super) program: PathBuf,
    /// Of `unshare`.
    pub(super) namespace: &'static str,
}

/// `None` where something is missing: the test can't run, which is said, and is a failure where `CI=true`.
pub(super) fn find() -> Option<Parts> {
    match look() {
        Ok(parts) => Some(parts),
        Err(missing) => {
            eprintln!("not run: no virtual YubiKey: {missing}");
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "no virtual YubiKey: {missing}");
            None
        }
    }
}

fn look() -> Result<Parts, String> {
    let program = program();
    for (needed, hint) in [
        (program.as_path(), "run: scripts/virtual-yubikey.sh build"),
        (Path::new("/usr/sbin/pcscd"), "run: make setup"),
        (Path::new("/usr/lib/pcsc/drivers/serial/libifdvpcd.so"), "run: make setup"),
    ] {
        if !needed.exists() {
            return Err(format!("`{}` is missing\nhint: {hint}", needed.display()));
        }
    }
    Ok(Parts { program, namespace: namespace()? })
}

/// Without root where the system lets users make namespaces, else as root, else not at all.
fn namespace() -> Result<&'static str, String> {
    let works = |kind: &&str| {
        let tried = Command::new("unshare").args([kind, "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let kinds: &[_] = if geteuid().is_root() { &["-rmn", "-mn"] } else { &["-rmn"] };
    kinds.iter().copied().find(works).ok_or_else(|| {
        "this system lets us make no namespaces\nhint: sysctl kernel.unprivileged_userns_clone=1, or run as root".into()
    })
}

/// `HALLMARK_VIRTUAL_YUBIKEY` names one that was built elsewhere.
fn program() -> PathBuf {
    if let Some(named) = env::var_os("HALLMARK_VIRTUAL_YUBIKEY") {
        return named.into();
    }
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let target = root.join(target.unwrap_or_else(|| "target".into()));
    target.join("virtual-yubikey/debug/virtual-yubikey")
}
