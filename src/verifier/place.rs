//! Where a URL points.

use std::net::IpAddr;

use reqwest::Url;

/// Whether others could read what is sent there: plain http to another machine.
pub fn is_exposed(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return true };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() != "https" && !is_here
}

/// Whether both are at one scheme, host and port.
pub fn same_origin(one: &str, other: &str) -> bool {
    matches!((Url::parse(one), Url::parse(other)), (Ok(one), Ok(other)) if one.origin() == other.origin())
}

/// Scheme, host and port of a URL.
pub fn origin(url: &str) -> Option<String> {
    Url::parse(url).ok().map(|url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_exposed_beyond_this_machine() {
        for exposed in ["http://as.example/register", "http://10.0.0.1/", "ftp://as.example", "nonsense"] {
            assert!(is_exposed(exposed), "{exposed}");
        }
        for safe in ["https://as.example/", "http://localhost:80/a", "http://127.0.0.1/", "http://[::1]:3000/"] {
            assert!(!is_exposed(safe), "{safe}");
        }
        assert!(same_origin("https://as.example/a", "https://as.example:443/b"));
        assert!(!same_origin("https://as.example/a", "http://as.example/a"));
    }
}
