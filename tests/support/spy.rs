//! Watches every call into a PKCS#11 library, by OpenSC's spy module between Hallmark and the real one.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::Site;

pub(crate) struct Spy {
    log: PathBuf,
}

impl Spy {
    /// Puts the spy between `site` and `module`.
    pub(crate) fn on(site: &mut Site, module: &Path, env: &[(String, OsString)]) -> Self {
        let log = site.folder().join("spy.log");
        let mut env = env.to_vec();
        env.push(("PKCS11SPY".to_owned(), module.into()));
        env.push(("PKCS11SPY_OUTPUT".to_owned(), log.clone().into()));
        site.through(&spy_module(), &env);
        Self { log }
    }

    /// What each call of `C_Login` returned, such as `CKR_PIN_INCORRECT`, over all runs.
    pub(crate) fn logins(&self) -> Vec<String> {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines();
        let mut results = Vec::new();
        while lines.by_ref().any(|line| line.ends_with(": C_Login")) {
            let returned = lines.by_ref().find_map(|line| line.strip_prefix("Returned:"));
            results.extend(returned.and_then(|line| line.split_whitespace().last()).map(str::to_owned));
        }
        results
    }
}

fn spy_module() -> PathBuf {
    let multiarch = format!("/usr/lib/{}-linux-gnu/pkcs11-spy.so", std::env::consts::ARCH);
    let found =
        [multiarch.as_str(), "/usr/lib/pkcs11-spy.so"].into_iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("`{multiarch}` is not installed\nhint: make setup"))
}
