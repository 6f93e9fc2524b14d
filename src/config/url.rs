//! Checks URLs without touching them: what goes into an assertion must be the authorization server's own bytes, so
//! nothing here returns a URL that was taken apart and put together again.

use std::net::IpAddr;

use http::uri::{Authority, PathAndQuery};

use super::value::Mismatch;

/// An `http` or `https` URL, in parts of the text that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) https: bool,
    /// Without the port.
    pub(super) host: &'a str,
    /// What follows host and port: empty, or path and query.
    pub(super) rest: &'a str,
}

impl<'a> Url<'a> {
    /// Refuses user names and fragments too: neither is ever part of an address that is given out.
    pub(super) fn check(text: &'a str) -> Result<Self, Mismatch> {
        let bad = |why: &str| {
            let hint = "write it as the authorization server or the browser shows it: `https://HOST/PATH`";
            Mismatch::new(format!("not an http(s) URL: `{text}`: {why}"), hint)
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("it has a space, or a character that URLs write as `%XX`"));
        }
        let (scheme, after) = text.split_once("://").ok_or_else(|| bad("it does not begin with `https://`"))?;
        let https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(bad("it does not begin with `https://`")),
        };
        let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
        if rest.contains('#') {
            return Err(bad("it has a fragment (`#…`)"));
        }
        if authority.contains('@') {
            return Err(bad("it has a user name"));
        }
        let parsed: Authority = authority.parse().map_err(|_| bad("it has no valid host"))?;
        let host = &authority[..parsed.host().len()];
        if host.is_empty() || (host.len() < authority.len() && parsed.port_u16().is_none()) {
            return Err(bad("it has no valid host and port"));
        }
        if !rest.is_empty() && rest.parse::<PathAndQuery>().is_err() {
            return Err(bad("its path is not valid"));
        }
        Ok(Self { https, host, rest })
    }

    /// Whether only this machine can mean it.
    pub(super) fn is_loopback(&self) -> bool {
        let literal = self.host.trim_start_matches('[').trim_end_matches(']');
        literal.parse().map_or(self.host == "localhost", |ip: IpAddr| ip.is_loopback())
    }

    /// Whether others could read and change what goes there.
    pub(super) fn is_exposed(&self) -> bool {
        !self.https && !self.is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_servers_publish_them_pass() {
        for good in [
            "https://ehr.example.com/oauth2/default/token",
            "https://ehr.example.com/oauth/token/",
            "https://ehr.example.com//oauth2/token",
            "https://EHR.example.com:443/a%2Fb?tenant=1",
            "http://[::1]:3000/token",
            "https://host",
        ] {
            assert!(Url::check(good).is_ok(), "{good} was refused");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for bad in [
            "",
            "ehr.example.com/token",
            "ftp://host/",
            "https://",
            "https:///token",
            "https://host name/",
            "https://host:99999/",
            "https://host:/x",
            "https://user@host/",
            "https://host/#top",
            "https://hôst/",
        ] {
            assert!(Url::check(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn plain_http_is_exposed_beyond_this_machine() {
        let exposed = |text| Url::check(text).unwrap().is_exposed();
        assert!(exposed("http://ehr.example.com/token"));
        assert!(!exposed("http://127.0.0.1:3000/token"));
        assert!(!exposed("http://localhost/token"));
        assert!(!exposed("https://ehr.example.com/token"));
    }
}
