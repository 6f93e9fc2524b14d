//! A PKCS#11 module that fails as it is told, between a program and a real module.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use hallmark_fault_module::{functions::return_value, record};
pub use hallmark_fault_module::{
    functions::{Function, RETURN_VALUES},
    plan::Plan,
    record::Seen,
};

/// The module, with a folder in which it is told what to do and says what it saw. The folder is removed on drop.
pub struct FaultModule {
    real: PathBuf,
    folder: tempfile::TempDir,
}

impl FaultModule {
    /// In front of `real`. There is no plan yet: every call is passed on.
    pub fn new(real: &Path) -> Self {
        let library = Self::library();
        assert!(library.exists(), "`{}` is not built\nhint: cargo test builds it", library.display());
        let this = Self { real: real.to_owned(), folder: tempfile::tempdir().expect("a temporary folder") };
        this.heal();
        this
    }

    /// What the program loads. Cargo puts it beside the binary of the tests.
    pub fn library() -> PathBuf {
        // Unwrap safety: a test binary runs from a path that it can find.
        let binary = env::current_exe().unwrap();
        binary.with_file_name("libhallmark_fault_module.so")
    }

    /// For the program that loads it.
    pub fn env(&self) -> Vec<(String, OsString)> {
        vec![
            ("FAULT_MODULE_REAL".into(), self.real.clone().into()),
            ("FAULT_MODULE_DIR".into(), self.folder.path().into()),
        ]
    }

    /// Has calls fail by `plan` from now on; see [`Plan`]. Panics where it does not say anything.
    pub fn set(&self, plan: &str) {
        if let Err(why) = Plan::parse(plan) {
            panic!("{why}");
        }
        let (fresh, path) = (self.folder.path().join("plan.new"), self.folder.path().join("plan"));
        fs::write(&fresh, plan).and_then(|()| fs::rename(fresh, path)).expect("a plan");
    }

    /// Nothing fails from now on.
    pub fn heal(&self) {
        self.set("");
    }

    /// How often `function` was called, and made to fail, by all processes together.
    pub fn seen(&self, function: Function) -> Seen {
        record::seen(self.folder.path(), function).expect("the module's record")
    }

    /// The functions that were called, in the order of PKCS#11.
    pub fn called(&self) -> Vec<Function> {
        Function::ALL.iter().copied().filter(|function| self.seen(*function).calls > 0).collect()
    }

    /// How many rules were used, at all functions together.
    pub fn faults(&self) -> u64 {
        Function::ALL.iter().map(|function| self.seen(*function).faults).sum()
    }

    /// What each `C_Login` returned, by its name in PKCS#11.
    pub fn logins(&self) -> Vec<String> {
        let name = |value| {
            let known = RETURN_VALUES.iter().find(|(_, known)| *known == value).map(|(name, _)| (*name).to_owned());
            known.unwrap_or_else(|| if value == 0 { "CKR_OK".into() } else { format!("CKR_0x{value:x}") })
        };
        record::logins(self.folder.path()).expect("the module's record").into_iter().map(name).collect()
    }

    /// The number of a return value.
    pub fn return_value(name: &str) -> u64 {
        return_value(name).unwrap_or_else(|| panic!("no return value has the name `{name}`"))
    }
}
