//! Reads `[[hsm]]`.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use hallmark_core::key::HsmName;

use super::{
    Hsm, TokenSelector, defaults,
    problem::{At, Place, Problems},
    section::Section,
    value::{Kind, Mismatch},
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
    tokens: HashMap<(PathBuf, TokenSelector), Place>,
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

    /// The files that hold PINs.
    pub(super) fn pin_files(&self) -> impl Iterator<Item = PathBuf> {
        self.list.iter().filter_map(|hsm| hsm.pin_source.strip_prefix("file:")).map(PathBuf::from)
    }

    fn read_one(&mut self, s: &Section<'_>) -> Option<Hsm> {
        let name = s.required::<HsmName>("name", "\"main\"");
        if let Some(At { value, place }) = &name
            && let Some(other) = self.names.insert(value.clone(), place.clone())
        {
            s.error(place, format!("two HSMs of one name: `{value}`"), format!("rename this one or that at {other}"));
        }
        let kind = s.get::<Kind>("kind").map_or_else(defaults::kind, |kind| kind.value);
        if kind == Kind::Elsewhere {
            for key in ["module", "module_env", "token_serial", "token_label", "pin_source", "workers"] {
                let what = "is for an HSM of this replica, and `kind` is \"elsewhere\"";
                s.refuse(key, what, "leave it out: the replica that has the HSM says so in its own configuration");
            }
            self.others.extend(name.map(|name| (name.value, s.place_of("kind"))));
            return None;
        }
        let module = match kind {
            Kind::Pkcs11 => s.required::<PathBuf>("module", "\"/usr/lib/softhsm/libsofthsm2.so\""),
            Kind::Yubikey => {
                let what = "`kind = \"yubikey\"` is not supported by this version";
                s.error(&s.place_of("kind"), what, "use `kind = \"pkcs11\"` and the `module` of a PKCS#11 token");
                s.get::<PathBuf>("module")
            }
            Kind::Elsewhere => None,
        };
        let module_env = s.texts("module_env");
        let token = token(s);
        let pin_source = pin_source(s);
        let workers = s.within("workers", defaults::workers(), &(1..=256));
        if let Some(env) = &module_env {
            self.check_env(s, env);
        }
        let (module, token) = (module?.value, token?);
        self.check_token(s, &module, &token);
        Some(Hsm {
            name: name?.value,
            module,
            module_env: module_env.map(|env| env.value).unwrap_or_default(),
            token,
            pin_source: pin_source?,
            workers: usize::try_from(workers).ok()?,
        })
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

fn pin_source(s: &Section<'_>) -> Option<String> {
    for key in ["pin", "user_pin", "pin_value"] {
        s.refuse(
            key,
            "would put the PIN into the configuration, which is copied, printed and kept in version control",
            "write it to a file that only the service's user can read (mode 0600), and name that file: \
             `pin_source = \"file:/etc/hallmark/main.pin\"`; then change the PIN, for this one has been seen",
        );
    }
    let At { value, place } = s.required::<String>("pin_source", "\"file:/etc/hallmark/main.pin\"")?;
    match resolve_pin_source(s, &value) {
        Ok(source) => Some(source),
        Err(Mismatch { what, hint }) => {
            s.error(&place, format!("`pin_source` in [[hsm]]: {what}"), hint);
            None
        }
    }
}

/// The source with an absolute path. What is refused is not shown: it may be the PIN itself.
fn resolve_pin_source(s: &Section<'_>, text: &str) -> Result<String, Mismatch> {
    let refused = || {
        let hint = "write `file:PATH`, `credential:NAME` (systemd) or `fd:NUMBER`; a PIN never stands here";
        Mismatch::new("not a reference to a PIN", hint)
    };
    let path = match text.split_once(':') {
        Some(("credential", name)) if is_file_name(name) => return Ok(text.to_owned()),
        Some(("fd", number)) if number.parse::<u16>().is_ok() => return Ok(text.to_owned()),
        Some(("file", path)) => path.strip_prefix("//").unwrap_or(path),
        // A bare word could be a PIN, so a path must look like one.
        _ if text.contains('/') && !text.contains(':') => text,
        _ => return Err(refused()),
    };
    if path.is_empty() {
        return Err(refused());
    }
    let path = s.resolve(Path::new(path));
    Ok(format!("file:{}", path.to_str().ok_or_else(refused)?))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}
