//! A SoftHSM token of a test's own.

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A folder with `softhsm2.conf`, one initialised token and its PIN in a file of mode 0600. Removed on drop.
///
/// SoftHSM reads `SOFTHSM2_CONF` once a process: use [`crate::child::in_child`] with [`SoftHsm::env`].
pub struct SoftHsm {
    folder: PathBuf,
    _owned: Option<tempfile::TempDir>,
}

impl SoftHsm {
    /// Where Debian has the module.
    pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
    /// Of the token.
    pub const LABEL: &str = "hallmark-test";
    /// Of the user.
    pub const PIN: &str = "73915064";
    /// Of the security officer.
    pub const SO_PIN: &str = "5820194637";

    /// A new token with label [`SoftHsm::LABEL`]. Panics, saying what to install, where SoftHSM is missing.
    pub fn new() -> Self {
        let token = Self::without_token();
        token.add_token(Self::LABEL);
        token
    }

    /// A configuration with no token yet.
    pub fn without_token() -> Self {
        require("softhsm2-util", Path::new(Self::MODULE));
        let owned = tempfile::tempdir().expect("a temporary folder");
        let folder = owned.path().to_owned();
        fs::create_dir(folder.join("tokens")).expect("a token folder");
        let tokens = folder.join("tokens");
        let conf =
            format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
        fs::write(folder.join("softhsm2.conf"), conf).expect("softhsm2.conf");
        private_file(&folder.join("pin"), Self::PIN);
        Self { folder, _owned: Some(owned) }
    }

    /// Inside a child process: the token whose environment it was given.
    pub fn from_env() -> Self {
        let conf = env::var_os("SOFTHSM2_CONF").expect("SOFTHSM2_CONF; is this the child process?");
        let folder = Path::new(&conf).parent().expect("a path with a folder").to_owned();
        Self { folder, _owned: None }
    }

    /// No token, but the folder of one of another kind that has the same label and PINs, as [`crate::tpm::Tpm`] has.
    pub fn stand_in(folder: PathBuf) -> Self {
        Self { folder, _owned: None }
    }

    /// The same token for one more process. It lasts as long as this one.
    pub fn shared(&self) -> Self {
        Self { folder: self.folder.clone(), _owned: None }
    }

    /// Initialises one more token, with the same PINs.
    pub fn add_token(&self, label: &str) {
        let init = ["--init-token", "--free", "--label", label, "--pin", Self::PIN, "--so-pin", Self::SO_PIN];
        let done = Command::new("softhsm2-util").args(init).envs(self.env()).output().expect("softhsm2-util");
        assert!(done.status.success(), "softhsm2-util: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// For whichever process loads [`SoftHsm::MODULE`].
    pub fn env(&self) -> Vec<(String, OsString)> {
        vec![("SOFTHSM2_CONF".into(), self.folder.join("softhsm2.conf").into())]
    }

    /// Holds [`SoftHsm::PIN`].
    pub fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }

    /// A PIN file of its own, with another content.
    pub fn other_pin_file(&self, name: &str, pin: &str) -> PathBuf {
        let path = self.folder.join(name);
        private_file(&path, pin);
        path
    }

    /// Where its configuration and its token are; removed at the end.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Default for SoftHsm {
    fn default() -> Self {
        Self::new()
    }
}

/// Panics, saying what to type, where a part that a test needs is not installed. Nothing is skipped silently.
pub(crate) fn require(command: &str, library: &Path) {
    let found = env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(command).exists());
    assert!(found, "`{command}` is not installed\nhint: make setup");
    assert!(library.exists(), "`{}` is not installed\nhint: make setup", library.display());
}

pub(crate) fn private_file(path: &Path, content: &str) {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes())).expect("a PIN file");
}
