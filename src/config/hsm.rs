//! Reads `[[hsm]]`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use hallmark_core::key::HsmName;

use super::{
    CkaId, Device, Hsm, Pkcs11, TokenSelector, defaults,
    problem::{At, Place, Problems},
    reference::{self, What},
    section::Section,
    value::Kind,
    yubikey::Yubikeys,
};

/// The HSMs so far, and what no two of them may share.
#[derive(Debug, Default)]
pub(super) struct Hsms {
    pub(super) list: Vec<Hsm>,
    /// Those that another replica has.
    pub(super) others: BTreeMap<HsmName, Place>,
    /// Another process has them: clients may name some that are not here.
    pub(super) elsewhere: bool,
    /// Of all sections, the faulty ones included: references to those are no problem of their own.
    names: HashMap<HsmName, Place>,
    /// Those that attest nothing: PKCS#11 has no word for it.
    pub(super) silent: BTreeSet<HsmName>,
    tokens: HashMap<(PathBuf, TokenSelector), Place>,
    pub(super) yubikeys: Yubikeys,
    env: HashMap<String, (String, Place)>,
}

impl Hsms {
    pub(super) fn read(&mut self, root: &Section<'_>) {
        root.tables("hsm", |s| {
            let hsm = self.read_one(s);
            self.list.extend(hsm);
        });
    }

    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.names.keys().map(HsmName::as_str).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn contains(&self, name: &HsmName) -> bool {
        self.elsewhere || self.names.contains_key(name)
    }

    /// The files that hold PINs and management keys.
    pub(super) fn pin_files(&self) -> impl Iterator<Item = PathBuf> {
        let sources = self.list.iter().flat_map(|hsm| match &hsm.device {
            Device::Pkcs11(_) => vec![&hsm.pin_source],
            Device::Yubikey(yubikey) => vec![&hsm.pin_source, &yubikey.management_key_source],
        });
        sources.filter_map(|source| source.strip_prefix("file:")).map(PathBuf::from)
    }

    fn read_one(&mut self, s: &Section<'_>) -> Option<Hsm> {
        let name = s.required::<HsmName>("name", "\"main\"");
        if let Some(At { value, place }) = &name
            && let Some(other) = self.names.insert(value.clone(), place.clone())
        {
            s.error(place, format!("two HSMs of one name: `{value}`"), format!("rename this one or that at {other}"));
        }
        let kind = s.get::<Kind>("kind").map_or_else(defaults::kind, |kind| kind.value);
        if let (Kind::Pkcs11, Some(At { value, .. })) = (kind, &name) {
            self.silent.insert(value.clone());
        }
        let device = match kind {
            Kind::Elsewhere => {
                refuse_elsewhere(s);
                self.others.extend(name.map(|name| (name.value, s.place_of("kind"))));
                return None;
            }
            Kind::Pkcs11 => self.pkcs11(s).map(Device::Pkcs11),
            Kind::Yubikey => self.yubikeys.read(s, name.as_ref().map(|name| &name.value)).map(Device::Yubikey),
        };
        refuse_pins(s);
        let pin_source = reference::required(s, "pin_source", "\"file:/etc/hallmark/main.pin\"", What::Pin);
        // A YubiKey does one thing at a time.
        let workers = if kind == Kind::Yubikey { 1 } else { s.within("workers", defaults::workers(), &(1..=256)) };
        Some(Hsm {
            name: name?.value,
            device: device?,
            pin_source: pin_source?,
            workers: usize::try_from(workers).ok()?,
        })
    }

    fn pkcs11(&mut self, s: &Section<'_>) -> Option<Pkcs11> {
        for key in ["serial", "management_key_source", "slots", "overwrite"] {
            let what = "is for a YubiKey, and `kind` is \"pkcs11\"";
            s.refuse(key, what, "leave it out, or write `kind = \"yubikey\"`");
        }
        let module = s.required::<PathBuf>("module", "\"/usr/lib/softhsm/libsofthsm2.so\"");
        let module_env = s.texts("module_env");
        let token = token(s);
        let custody_key = s.get::<CkaId>("custody_key").map(|id| id.value);
        if let Some(env) = &module_env {
            self.check_env(s, env);
        }
        let (module, token) = (module?.value, token?);
        self.check_token(s, &module, &token);
        let module_env = module_env.map(|env| env.value).unwrap_or_default();
        Some(Pkcs11 { module, module_env, token, custody_key })
    }

    /// Replicas meet in a store that they share.
    pub(super) fn check_store(&self, url: &str, problems: &Problems) {
        for (name, place) in self.others.iter().filter(|_| url.starts_with("sqlite:")) {
            let what = format!("HSM `{name}` is another replica's, and `url` in [store] is of a database for one");
            problems.error(place, what, "use PostgreSQL, or give this HSM a `kind` and `module`");
        }
    }

    fn check_token(&mut self, s: &Section<'_>, module: &Path, token: &TokenSelector) {
        let place = s.place_of(match token {
            TokenSelector::Serial(_) => "token_serial",
            TokenSelector::Label(_) => "token_label",
        });
        if let Some(other) = self.tokens.insert((module.to_owned(), token.clone()), place.clone()) {
            let what = "two HSMs are one PKCS#11 token: a PIN would be tried twice, and its sessions counted twice";
            s.error(&place, what, format!("use the one at {other} for both, with more `workers`"));
        }
    }

    /// All modules share the environment of the process.
    fn check_env(&mut self, s: &Section<'_>, At { value: env, place }: &At<BTreeMap<String, String>>) {
        for (name, value) in env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let hint = "write it as `module_env = { NAME = \"value\" }`";
                s.error(place, format!("`module_env` in [[hsm]]: not an environment variable: `{name}`"), hint);
            }
            match self.env.get(name) {
                Some((other, at)) if other != value => {
                    let what = format!("`module_env` in [[hsm]]: `{name}` has two values");
                    let hint = format!("write the same as at {at}: all modules live in one process");
                    s.error(place, what, hint);
                }
                _ => _ = self.env.insert(name.clone(), (value.clone(), place.clone())),
            }
        }
    }
}

fn token(s: &Section<'_>) -> Option<TokenSelector> {
    let serial = s.get::<String>("token_serial");
    let label = s.get::<String>("token_label");
    match (s.has("token_serial"), s.has("token_label")) {
        (true, true) => {
            let place = s.place_of("token_label");
            let hint = "leave `token_label` out: a serial is unique, a label need not be";
            s.error(&place, "[[hsm]] has both `token_serial` and `token_label`", hint);
            None
        }
        (false, false) => {
            let hint = "add `token_serial = \"…\"`; `pkcs11-tool --module MODULE --list-token-slots` shows it";
            s.error(s.place(), "[[hsm]] has neither `token_serial` nor `token_label`", hint);
            None
        }
        _ => {
            let token = serial.map(|serial| TokenSelector::Serial(serial.value));
            token.or_else(|| label.map(|label| TokenSelector::Label(label.value)))
        }
    }
}

fn refuse_elsewhere(s: &Section<'_>) {
    const KEYS: [&str; 11] = [
        "module",
        "module_env",
        "token_serial",
        "token_label",
        "custody_key",
        "pin_source",
        "workers",
        "serial",
        "management_key_source",
        "slots",
        "overwrite",
    ];
    for key in KEYS {
        let what = "is for an HSM of this replica, and `kind` is \"elsewhere\"";
        s.refuse(key, what, "leave it out: the replica that has the HSM says so in its own configuration");
    }
}

fn refuse_pins(s: &Section<'_>) {
    for key in ["pin", "user_pin", "pin_value"] {
        s.refuse(
            key,
            "would put the PIN into the configuration, which is copied, printed and kept in version control",
            "write it to a file that only the service's user can read (mode 0600), and name that file: \
             `pin_source = \"file:/etc/hallmark/main.pin\"`; then change the PIN, for this one has been seen",
        );
    }
}
