//! URLs that people type.

use super::{Failure, failure::USAGE};

/// Refuses a URL with a user's name or password in it, without showing it: what we say of a URL ends up in logs, in the
/// audit log, and on screens. No place that we ask takes one.
///
/// # Errors
/// Bad usage, where there is one, or may be.
pub(super) fn refuse_userinfo(what: &str, url: &str) -> Result<(), Failure> {
    if !may_have_userinfo(url) {
        return Ok(());
    }
    let failure = Failure::new(format!("{what} has a user name or a password in it")).with_exit_code(USAGE);
    Err(failure.hint("leave out what stands before the `@`, and the `@`; in a path it can be written as `%40`"))
}

/// A password can have any character, also those that end the place of the host. With a `:` before them, an `@` later on
/// may be its end.
fn may_have_userinfo(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    authority.contains('@') || (authority.contains(':') && rest.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_refused_and_not_shown() {
        for url in [
            "https://me:s3cret@as.example/fhir",
            "https://s3cret@as.example",
            "https://me:s3/cret@as.example",
            "https://me:12/s3cret@as.example",
            "https://me:s3?cret@as.example",
            "https://me:s3\\cret@as.example",
            "me:s3cret@as.example",
        ] {
            let failure = refuse_userinfo("the URL", url).expect_err(url);
            assert_eq!(failure.exit_code(), USAGE);
            let said = failure.render(false) + &failure.render(true);
            assert!(!said.contains("s3") && !said.contains("cret"), "{said}");
        }
        for fine in ["https://as.example/@tenant/fhir", "https://as.example:8443/fhir", "http://[::1]:80/", "nonsense"]
        {
            assert_eq!(refuse_userinfo("the URL", fine), Ok(()), "{fine}");
        }
    }
}
