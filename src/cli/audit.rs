//! `hallmark audit`: everything here reads files, and needs no server.
//!
//! - [`verify`]: whether the log is whole;
//! - [`tail`]: its last records;
//! - [`export`]: a part of it, for others;
//! - `keys`: what an auditor needs beside the log;
//! - [`filter`]: which records somebody asked for.

use std::{path::Path, time::UNIX_EPOCH};

use hallmark_core::{audit::checkpoint::CustodyKeys, public_key::PublicKey, time::Timestamp};

use super::{
    Failure,
    args::{AuditCommand, CustodyKeysArgs, PlacesArgs},
    custody_keys,
    input::unreadable,
    output::{self, Output},
};
use crate::{
    app::{self, CustodyKey},
    audit::reading::{self, ChainFiles, ReadError},
    config::{self, Config},
};

mod export;
mod filter;
mod part;
mod tail;
mod verify;

/// Carries one out; gives the exit code.
pub(super) async fn run(command: AuditCommand, json: bool) -> Result<u8, Failure> {
    match command {
        AuditCommand::Verify(args) => verify::run(args, json).await,
        AuditCommand::Tail(args) => tail::run(args, json).await,
        AuditCommand::Export(args) => export::run(&args),
        AuditCommand::Keys(args) => keys(&args, json).await,
    }
}

/// Milliseconds since 1970, from RFC 3339.
pub(super) fn parse_time(text: &str) -> Result<i64, String> {
    let time = humantime::parse_rfc3339_weak(text).map_err(|_| "write it as `2026-11-01T00:00:00Z`".to_owned())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| "it is before 1970".to_owned())?;
    i64::try_from(since.as_millis()).map_err(|_| "it is too far ahead".to_owned())
}

async fn keys(args: &CustodyKeysArgs, json: bool) -> Result<u8, Failure> {
    let keys = stored_keys(&load(&args.config)?).await?;
    if json {
        let list = keys.iter().map(|key| {
            let CustodyKey { hsm, kid, state, .. } = key;
            serde_json::json!({ "hsm": hsm, "kid": kid, "state": state, "public_key": pem(key) })
        });
        return Output::json(&list.collect()).print();
    }
    // What stands outside of the PEM blocks is passed over by whoever reads them.
    let text = |key: &CustodyKey| format!("HSM {}, kid {}, {}\n{}", key.hsm, key.kid, key.state, pem(key));
    Output { stdout: keys.iter().map(text).collect(), ..Output::default() }.print()
}

fn pem(key: &CustodyKey) -> String {
    hallmark_core::certificate::pem("PUBLIC KEY", &key.spki)
}

fn load(path: &Path) -> Result<Config, Failure> {
    config::load(path).map_err(|error| Failure::new("the configuration is wrong").caused_by(&error).with_exit_code(78))
}

async fn stored_keys(config: &Config) -> Result<Vec<CustodyKey>, Failure> {
    let hint = "run it where the server's store can be read, or give the keys as `--custody-key FILE`";
    let keys = app::custody_keys(config).await;
    keys.map_err(|why| Failure::new("can't read the custody keys from the store").because(why).hint(hint))
}

/// The chains that were asked for.
fn chains(args: &PlacesArgs) -> Result<Vec<ChainFiles>, Failure> {
    let mut places = args.places.clone();
    if let Some(config) = args.config.as_deref().filter(|_| places.is_empty()) {
        places.push(load(config)?.audit.dir);
    }
    if places.is_empty() {
        let failure = Failure::new("it is not said where the log is");
        return Err(failure.hint("name its folder, or give `--config FILE`").with_exit_code(super::USAGE));
    }
    let found = reading::find(&places).map_err(|error| unread(&error))?;
    if found.is_empty() {
        let shown: Vec<_> = places.iter().map(|place| format!("`{}`", place.display())).collect();
        let failure = Failure::new(format!("no audit log there: {}", shown.join(", ")));
        return Err(failure.hint(IT_IS));
    }
    Ok(found)
}

/// A log that can't be read, and what to type next.
fn unread(error: &ReadError) -> Failure {
    let what = "can't read the audit log".to_owned();
    match error {
        ReadError::Io { path, cause } => {
            let failure = unreadable(format!("{what}: `{}`", path.display()), path, cause);
            match cause.kind() {
                std::io::ErrorKind::NotFound => failure.hint(format!("is the path right? {IT_IS}")),
                _ => failure,
            }
        }
        ReadError::Name(_) => Failure::new(what).caused_by(error).hint(IT_IS),
        ReadError::Twice(..) => {
            Failure::new(what).caused_by(error).hint("name one of the two, or a folder with one of them")
        }
    }
}

/// The keys that were given, and those of the store.
async fn trusted(files: &[std::path::PathBuf], config: Option<&Path>) -> Result<CustodyKeys, Failure> {
    let mut keys = CustodyKeys::default();
    for path in files {
        custody_keys::read(path)?.iter().for_each(|key| keys.trust(key));
    }
    if let Some(config) = config {
        for key in stored_keys(&load(config)?).await? {
            let key = PublicKey::from_spki(&key.spki);
            keys.trust(&key.map_err(|error| Failure::new("the store has an unusable custody key").caused_by(&error))?);
        }
    }
    Ok(keys)
}

/// For people.
fn shown_time(time: Timestamp) -> String {
    let millis = u64::try_from(time.millis()).unwrap_or(0);
    output::time(UNIX_EPOCH + std::time::Duration::from_millis(millis))
}

/// Where a log is.
const IT_IS: &str = "it is the folder of `[audit] dir`; its files end in `-00000001.jsonl` and so on";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_not_there_comes_with_where_to_look() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("notes.txt");
        std::fs::write(&other, "x").unwrap();
        for place in
            [folder.path().join("none"), folder.path().join("a-00000001.jsonl"), other, folder.path().to_owned()]
        {
            let args = PlacesArgs { places: vec![place.clone()], config: None };
            let said = chains(&args).unwrap_err().render(false);
            assert!(said.contains(&place.display().to_string()), "{said}");
            assert!(said.contains("hint: ") && said.contains("the folder of `[audit] dir`"), "{said}");
        }
    }
}
