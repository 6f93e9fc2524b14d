//! Reads `[store]`. No URL that is refused is shown: it may hold a password.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Store, defaults, problem::At, section::Section, value::Mismatch};

pub(super) fn read(s: &Section<'_>) -> Option<Store> {
    let lease = s.within("lease", defaults::lease(), &(Duration::from_secs(1)..=Duration::from_mins(5)));
    let password = s.get::<PathBuf>("password_file");
    let At { value: url, place } = s.required::<String>("url", "\"sqlite:///var/lib/hallmark/hallmark.db\"")?;
    let is_postgres = url.starts_with("postgres:") || url.starts_with("postgresql:");
    let checked = if is_postgres { Postgres::check(&url).map(|_| url.clone()) } else { sqlite(s, &url) };
    let url = match checked {
        Ok(url) => url,
        Err(Mismatch { what, hint }) => {
            s.error(&place, format!("`url` in [store]: {what}"), hint);
            return None;
        }
    };
    match &password {
        Some(password) if !is_postgres => {
            s.error(&password.place, "`password_file` in [store]: SQLite has no password", "take it out");
        }
        _ => {}
    }
    if Postgres::check(&url).is_ok_and(|postgres| postgres.is_exposed()) {
        let what = "`url` in [store] names a database on another machine, and does not check its certificate";
        let hint = "add `?sslmode=verify-full&sslrootcert=/PATH/ca.pem`: who can pose as the database decides which keys \
                    are published";
        s.warn(&place, what, hint);
    }
    Some(Store { url, password_file: password.map(|password| password.value), lease })
}

/// The URL with an absolute path.
fn sqlite(s: &Section<'_>, url: &str) -> Result<String, Mismatch> {
    const HINT: &str =
        "write `sqlite:///PATH`, e.g. `sqlite:///var/lib/hallmark/hallmark.db`, or `postgres://HOST/DATABASE`";
    let path = url.strip_prefix("sqlite:").ok_or_else(|| Mismatch::new("not a store that Hallmark knows", HINT))?;
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path == ":memory:" {
        return Err(Mismatch::new("it names no file: key records must outlive the process", HINT));
    }
    let path = s.resolve(Path::new(path));
    // These mean something else in a URL, and escaping them is one more thing that readers may do differently.
    match path.to_str().filter(|path| !path.contains(['%', '?', '#'])) {
        Some(path) => Ok(format!("sqlite://{path}")),
        None => Err(Mismatch::new("the path has a `%`, `?` or `#`, or is not UTF-8", "choose another folder or name")),
    }
}

/// A URL of a PostgreSQL database, as libpq writes it (its manual, §34.1.1.2), in parts of the text that was given.
struct Postgres<'a> {
    host: &'a str,
    sslmode: Option<&'a str>,
}

impl<'a> Postgres<'a> {
    fn check(url: &'a str) -> Result<Self, Mismatch> {
        const HINT: &str = "write `postgres://USER@HOST/DATABASE?sslmode=verify-full&sslrootcert=/PATH/ca.pem`, or \
                            `postgres:///DATABASE?host=/run/postgresql`";
        let bad = |what: &str| Mismatch::new(what, HINT);
        let (_, rest) = url.split_once("://").ok_or_else(|| bad("not a URL"))?;
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('#') {
            return Err(bad("it has a space, a `#`, or a character that URLs write as `%XX`"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            let hint = "take it out, and put it into a file that only Hallmark can read: `password_file = \"PATH\"`";
            return Err(Mismatch::new("it has a password in it", hint));
        }
        let (host, port) = split_port(host);
        // A `/` in a password that is not escaped looks like this.
        if database.contains(['/', '@', ':']) || !port.bytes().all(|byte| byte.is_ascii_digit()) || host.contains(',') {
            return Err(bad("it has no valid host, port and database"));
        }
        let mut parsed = Self { host, sslmode: None };
        let mut has_database = !database.is_empty();
        for (key, value) in
            query.split('&').filter(|pair| !pair.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")))
        {
            match key {
                "host" => parsed.host = value,
                "dbname" => has_database = !value.is_empty(),
                "user" | "port" => {}
                "sslmode" if SSL_MODES.contains(&value) => parsed.sslmode = Some(value),
                "sslrootcert" | "sslcert" | "sslkey" if is_absolute(value) => {}
                "sslmode" => return Err(Mismatch::new("its `sslmode` is none", format!("one of {SSL_MODES:?}"))),
                "sslrootcert" | "sslcert" | "sslkey" => {
                    return Err(Mismatch::new("it names a file without its folder", format!("write `{key}=/PATH`")));
                }
                "password" => return Err(bad("it has a password in it; `password_file` names a file with it")),
                _ => return Err(bad("it has a parameter that Hallmark does not know")),
            }
        }
        if has_database { Ok(parsed) } else { Err(bad("it names no database")) }
    }

    /// Whether others could pose as the database.
    fn is_exposed(&self) -> bool {
        let literal = self.host.trim_start_matches('[').trim_end_matches(']');
        let is_local = literal.is_empty()
            || is_absolute(literal)
            || literal.parse().map_or(literal == "localhost", |ip: IpAddr| ip.is_loopback());
        !is_local && self.sslmode != Some("verify-full")
    }
}

fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (host, ""),
    }
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/') || path.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%2f"))
}

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_libpq_takes_them_pass() {
        for good in [
            "postgres:///hallmark?host=/run/postgresql",
            "postgresql:///hallmark?host=%2Frun%2Fpostgresql&user=hallmark",
            "postgres://hallmark@db.example.com:5432/hallmark?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            "postgres://[2001:db8::1]:5432/hallmark",
            "postgres://[2001:db8::1]/hallmark?sslcert=/etc/c.pem&sslkey=/etc/c.key",
            "postgres://localhost?dbname=hallmark&port=5433",
        ] {
            assert!(Postgres::check(good).is_ok(), "{good}: {:?}", Postgres::check(good).err());
        }
    }

    #[test]
    fn what_could_hold_a_password_is_refused_and_not_shown() {
        for bad in [
            "postgres://u:s3cret@h/db",
            "postgres://u:s3/cret@h/db",
            "postgres://u:s3?cret@h/db",
            "postgres://u:12/s3cret@h/db",
            "postgres://h/db?password=s3cret",
            "postgres://h/db?pass%77ord=s3cret",
            "postgres://h/db?options=-c%20s3cret",
        ] {
            let Mismatch { what, hint } = Postgres::check(bad).err().unwrap_or_else(|| panic!("{bad} was taken"));
            assert!(!format!("{what}{hint}").contains("s3"), "{what}");
        }
    }

    #[test]
    fn what_names_no_database_is_refused() {
        for bad in [
            "postgres:",
            "postgres://",
            "postgres://h/",
            "postgres://h:port/db",
            "postgres://a,b/db",
            "postgres://h/d b",
            "postgres://h/db?sslmode=on",
            "postgres://h/db?sslrootcert=ca.pem",
        ] {
            assert!(Postgres::check(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_database_elsewhere_is_exposed_unless_its_certificate_is_checked() {
        let exposed = |url| Postgres::check(url).unwrap().is_exposed();
        assert!(exposed("postgres://db.example.com/hallmark"));
        assert!(exposed("postgres:///hallmark?host=10.0.0.1&sslmode=require"));
        assert!(!exposed("postgres://db.example.com/hallmark?sslmode=verify-full"));
        assert!(!exposed("postgres:///hallmark?host=/run/postgresql"));
        assert!(!exposed("postgres://127.0.0.1/hallmark") && !exposed("postgres://[::1]:5432/hallmark"));
    }
}
