//! Where the database is, and how to get in.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, str::FromStr};

use hallmark_core::ports::StoreError;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use zeroize::Zeroizing;

use super::PostgresOptions;

/// How to connect; with the password that is in the file now.
pub(super) fn parse(options: &PostgresOptions) -> Result<PgConnectOptions, StoreError> {
    if has_password(&options.url) {
        // Not shown.
        let text = "the URL of the database has a password in it\nhint: put it into a file: `password_file` in [store]";
        return Err(StoreError::Unavailable(text.into()));
    }
    let mut connect = PgConnectOptions::from_str(&options.url)
        .map_err(|e| StoreError::Unavailable(format!("can't use the URL of the database: {e}")))?
        .application_name(&format!("hallmark {}", options.instance))
        // The database gives up by itself what nobody waits for any more.
        .options([("statement_timeout", "5s"), ("lock_timeout", "4s"), ("idle_in_transaction_session_timeout", "10s")]);
    if let Some(file) = &options.password_file {
        let password = read(file).map_err(|e| StoreError::Unavailable(format!("`{}`: {e}", file.display())))?;
        connect = connect.password(password.expose_secret());
    }
    Ok(connect)
}

/// Whether the database knows the user, and not the password.
pub(super) fn is_password_refused(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == "28P01")
}

/// What to type next, after a first connection that failed.
pub(super) fn hint(options: &PostgresOptions, error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Database(e) if e.code().as_deref() == Some("28P01") => match options.password_file {
            Some(_) => "\nhint: put the right password into the file that `password_file` of [store] names",
            None => "\nhint: name a file with the password: `password_file` in [store]",
        },
        sqlx::Error::Database(e) if e.code().as_deref() == Some("3D000") => "\nhint: make it: `createdb NAME`",
        sqlx::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => CERTIFICATE,
        sqlx::Error::Tls(_) => CERTIFICATE,
        sqlx::Error::Io(_) => "\nhint: look whether it runs there: `pg_isready -d URL`",
        _ => "",
    }
}

const CERTIFICATE: &str =
    "\nhint: its certificate must be for the host that the URL names, and of the CA in `sslrootcert=FILE`";

fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, query) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || query.split(['?', '&']).any(|pair| pair.starts_with("password="))
}

/// The first line of `file`, which others must not be able to read. A group may where root owns it: so do systemd and
/// Kubernetes hand out secrets.
fn read(file: &Path) -> io::Result<SecretString> {
    let facts = fs::metadata(file)?;
    let (mode, forbidden) = (facts.mode(), if facts.uid() == 0 { 0o037 } else { 0o077 });
    if mode & forbidden != 0 {
        let text = format!("others can use it: its mode is {:03o}\nhint: chmod 600 {}", mode & 0o777, file.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let text = Zeroizing::new(fs::read_to_string(file)?);
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(SecretString::from(line)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
    }
}
