//! What it means that questions to an authorization server's host were not answered, and what to type next.

use hallmark_core::diagnosis::{Contact, printable};

use crate::verifier::{HttpAnswer, Obstacle, Unreached, Unseen, origin};

/// The variable that names a proxy for HTTPS, if one does.
pub(super) fn proxy() -> Option<&'static str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().find(is_set)
}

/// From what became of all questions to the host of `token_endpoint`. One answer is enough, whatever it says. The questions
/// went past `proxy`: where services go through one, this says little of them.
pub(super) fn contact<'a>(
    token_endpoint: &str,
    asked: impl IntoIterator<Item = Result<&'a HttpAnswer, &'a Unseen>>,
    proxy: Option<&str>,
) -> Contact {
    let at = place(token_endpoint);
    let mut kept_away = Vec::new();
    for outcome in asked {
        match outcome {
            Ok(_) => return Contact::Answered { at },
            Err(Unseen::Failed(unreached)) => kept_away.push(unreached),
            Err(_) => {}
        }
    }
    match unanswered(&at, &kept_away) {
        Some(Unanswered { unconnected, what, next }) => {
            let past =
                proxy.map(|name| format!("this went past the proxy in {name}: through it, --live tells; else: "));
            let next = format!("{}{next}; see `token_endpoint` in its [[client]]", past.unwrap_or_default());
            Contact::Nothing { unconnected: unconnected && proxy.is_none(), what, next }
        }
        None => Contact::NotAsked("the token endpoint has no place to ask for a document".to_owned()),
    }
}

/// No question had an answer.
pub(in crate::cli) struct Unanswered {
    /// There was not one connection to ask over.
    pub(in crate::cli) unconnected: bool,
    pub(in crate::cli) what: String,
    pub(in crate::cli) next: String,
}

/// What kept all answers from `at` away; `None` where nothing did.
pub(in crate::cli) fn unanswered(at: &str, kept_away: &[&Unreached]) -> Option<Unanswered> {
    let first = kept_away.first()?;
    let unconnected = kept_away.iter().all(|unreached| unreached.unconnected);
    let how = if unconnected { "can't be reached from here" } else { "answers nothing" };
    let what = format!("`{at}` {how}: {}", printable(first.innermost(), 300));
    Some(Unanswered { unconnected, what, next: advice(first, at) })
}

/// Scheme, host and port, and never a user's name or password.
pub(in crate::cli) fn place(url: &str) -> String {
    origin(url).map_or_else(|| "the host".to_owned(), |origin| printable(&origin, 200))
}

/// What to do where nothing answered at `place`.
fn advice(unreached: &Unreached, place: &str) -> String {
    let host = place.split_once("://").map_or(place, |(_, rest)| rest);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    match unreached.obstacle() {
        Obstacle::Tls => format!(
            "its certificate must be for this name, valid, and from an authority that is trusted here; --ca FILE for one of your own; \
             see it: curl -v {place}"
        ),
        Obstacle::Name => format!("is the name right, and known here? try: getent hosts {host}"),
        Obstacle::Time => format!("a firewall may drop what goes there: curl -v --max-time 10 {place}"),
        Obstacle::Other => {
            format!("is it up, is the port right, and does a firewall let this machine through? try: curl -v {place}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(text: &str, unconnected: bool) -> Unseen {
        let text = format!("error sending request: {text}");
        Unseen::Failed(Unreached { why: text.clone(), without_url: text, timed_out: false, unconnected })
    }

    const ENDPOINT: &str = "https://as.example:8443/oauth2/token";

    #[test]
    fn one_answer_is_enough() {
        let (refused, answer) = (
            failed("client error (Connect): tcp connect error: Connection refused (os error 111)", true),
            HttpAnswer { status: 404, headers: Vec::new(), body: None },
        );
        let at = "https://as.example:8443".to_owned();
        assert_eq!(contact(ENDPOINT, [Err(&refused), Ok(&answer)], None), Contact::Answered { at });
        assert!(matches!(contact(ENDPOINT, [], None), Contact::NotAsked(_)));
    }

    #[test]
    fn what_kept_all_answers_away_is_said_and_what_to_type() {
        for (text, said, next) in [
            (
                "client error (Connect): tcp connect error: Connection refused (os error 111)",
                ": Connection refused (os error 111)",
                "curl -v https://as.example:8443",
            ),
            (
                "client error (Connect): dns error: failed to lookup address information: Name or service not known",
                "not known",
                "getent hosts as.example;",
            ),
            (
                "client error (Connect): invalid peer certificate: UnknownIssuer",
                ": invalid peer certificate: UnknownIssuer",
                "--ca FILE",
            ),
        ] {
            let error = failed(text, true);
            let Contact::Nothing { unconnected, what, next: typed } =
                contact(ENDPOINT, [Err(&error), Err(&error)], None)
            else {
                panic!("{text}")
            };
            assert!(unconnected && what.ends_with(said) && typed.contains(next), "{what}: {typed}");
        }
        let (refused, late) = (failed("connection refused", true), failed("operation timed out", false));
        let proxied = contact(ENDPOINT, [Err(&refused)], Some("HTTPS_PROXY"));
        let Contact::Nothing { unconnected: false, next, .. } = proxied else { panic!("{proxied:?}") };
        assert!(next.contains("proxy in HTTPS_PROXY"), "{next}");
        let mixed = contact(ENDPOINT, [Err(&refused), Err(&late)], None);
        assert!(matches!(mixed, Contact::Nothing { unconnected: false, .. }), "{mixed:?}");
    }

    #[test]
    fn no_password_is_shown() {
        assert_eq!(place("https://me:s3cret@as.example/token"), "https://as.example");
        assert_eq!(place("no url s3cret"), "the host");
    }
}
