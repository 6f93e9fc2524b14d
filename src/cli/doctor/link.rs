//! The chain: links as data, and how they are printed.

use hallmark_core::diagnosis::{Cause, Certainty, Check, Outcome, printable};
use serde_json::{Value, json};

use crate::cli::{diagnose, output::Output};

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// What it is a link of: the machine, the server, a client.
    of: String,
    name: String,
    state: State,
    what: String,
    why: Option<String>,
    /// What to type next.
    next: Option<String>,
    /// Of a refusal.
    causes: Vec<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    Broken,
    /// It may matter elsewhere, or later.
    Doubtful,
    Skipped,
}

/// All links that were looked at, in the order of the chain.
#[derive(Debug, Default)]
pub(super) struct Chain {
    of: String,
    links: Vec<Link>,
}

impl Chain {
    /// What the links that follow are of.
    pub(super) fn begin(&mut self, of: impl Into<String>) {
        self.of = of.into();
    }

    pub(super) fn good(&mut self, name: impl Into<String>, what: impl Into<String>) {
        self.add(name.into(), State::Good, what.into(), None, None);
    }

    pub(super) fn broken(&mut self, name: impl Into<String>, what: impl Into<String>, next: impl Into<String>) {
        self.add(name.into(), State::Broken, what.into(), None, Some(next.into()));
    }

    /// What holds as far as can be seen, and may matter elsewhere or later.
    pub(super) fn doubtful(&mut self, name: impl Into<String>, what: impl Into<String>, next: Option<String>) {
        self.add(name.into(), State::Doubtful, what.into(), None, next);
    }

    /// Not looked at, and why.
    pub(super) fn skipped(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.add(name.into(), State::Skipped, why.into(), None, None);
    }

    /// An error text of ours: its hint is what to do next.
    pub(super) fn failed(&mut self, name: impl Into<String>, text: &str, usual_next: &str) {
        let (what, next) = text.split_once("\nhint: ").unwrap_or((text, usual_next));
        let lines = what.lines().map(|line| line.trim().trim_start_matches("caused by: "));
        let what: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        self.broken(name, what.join("; "), next);
    }

    pub(super) fn checked(&mut self, check: Check) {
        let name = check.about.as_str().to_owned();
        match check.outcome {
            Outcome::Good(what) => self.good(name, what),
            Outcome::Skipped(why) => self.skipped(name, why),
            Outcome::Bad(Cause { what, why, next, evidence, certainty, .. }) => {
                // What is only likely breaks no chain: a server may have more names than it publishes.
                let state = if certainty == Certainty::Found { State::Broken } else { State::Doubtful };
                let known = evidence.map(|(evidence, source)| format!(" ({}: {source})", evidence.as_str()));
                self.add(name, state, what, Some(why + known.as_deref().unwrap_or_default()), Some(next));
            }
        }
    }

    /// A refusal of the authorization server, with what may have made it refuse.
    pub(super) fn refused(&mut self, what: String, causes: Vec<Cause>) {
        let next = causes.first().map(|cause| cause.next.clone());
        self.add("access token".to_owned(), State::Broken, what, None, next);
        if let Some(link) = self.links.last_mut() {
            link.causes = causes;
        }
    }

    /// The one to mend before anything else.
    pub(super) fn first_broken(&self) -> Option<&Link> {
        self.links.iter().find(|link| link.state == State::Broken)
    }

    fn add(&mut self, name: String, state: State, what: String, why: Option<String>, next: Option<String>) {
        let clean = |text: String| printable(&text, MOST);
        let (what, why, next) = (clean(what), why.map(clean), next.map(clean));
        self.links.push(Link { of: self.of.clone(), name, state, what, why, next, causes: Vec::new() });
    }

    pub(super) fn as_text(&self) -> Output {
        let (mut stdout, mut of, first) = (String::new(), "", self.first_broken());
        let width = self.links.iter().map(|link| link.name.chars().count()).max().unwrap_or_default();
        for link in &self.links {
            if link.of != of {
                of = &link.of;
                stdout += &format!("{of}\n");
            }
            let sign = match link.state {
                State::Good => '✓',
                State::Broken => '✗',
                State::Doubtful => '!',
                State::Skipped => '–',
            };
            let mark =
                if first.is_some_and(|first| std::ptr::eq(first, link)) { "  ← the first broken link" } else { "" };
            stdout += &format!("  {sign} {:width$}  {}{mark}\n", link.name, link.what);
            for (title, text) in [("why", &link.why), ("next", &link.next)] {
                stdout.extend(text.iter().map(|text| format!("      {title:<4}  {text}\n")));
            }
            let causes = diagnose::as_text(&link.causes);
            stdout.extend(causes.lines().map(|line| format!("      {line}\n")));
        }
        Output { stdout, stderr: self.summary() }
    }

    fn summary(&self) -> String {
        let Some(first) = self.first_broken() else {
            return "nothing is broken, as far as can be seen from here\n".to_owned();
        };
        let more = self.links.iter().filter(|link| link.state == State::Broken).count() - 1;
        let more = match more {
            0 => String::new(),
            1 => "; one more link is broken after it".to_owned(),
            more => format!("; {more} more links are broken after it"),
        };
        let next = first.next.as_ref().map(|next| format!("hint: {next}\n")).unwrap_or_default();
        format!("the first broken link: {}: {}: {}{more}\n{next}", first.of, first.name, first.what)
    }

    pub(super) fn as_json(&self) -> Value {
        let link = |link: &Link| {
            let state = match link.state {
                State::Good => "ok",
                State::Broken => "broken",
                State::Doubtful => "doubtful",
                State::Skipped => "skipped",
            };
            json!({
                "of": link.of,
                "link": link.name,
                "state": state,
                "what": link.what,
                "why": link.why,
                "next": link.next,
                "causes": (!link.causes.is_empty()).then(|| diagnose::as_json(&link.causes)),
            })
        };
        let links: Vec<_> = self.links.iter().map(link).collect();
        json!({ "ok": self.first_broken().is_none(), "first_broken": self.first_broken().map(link), "links": links })
    }
}

const MOST: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_broken_link_is_named() {
        let mut chain = Chain::default();
        chain.begin("server");
        chain.good("connection", "it answers");
        chain.begin("client clinic");
        chain.failed("signature", "the HSM is away\nhint: plug it in", "look");
        chain.skipped("clock", "nothing was signed\u{1b}[1m");
        chain.broken("JWKS URL", "answers 404", "curl -i URL");
        chain.doubtful("next key", "there is none yet", None);
        let Output { stdout, stderr } = chain.as_text();
        insta::assert_snapshot!(stdout + "---\n" + &stderr, @r"
        server
          ✓ connection  it answers
        client clinic
          ✗ signature   the HSM is away  ← the first broken link
              next  plug it in
          – clock       nothing was signed\u{1b}[1m
          ✗ JWKS URL    answers 404
              next  curl -i URL
          ! next key    there is none yet
        ---
        the first broken link: client clinic: signature: the HSM is away; one more link is broken after it
        hint: plug it in
        ");
        let json = chain.as_json();
        assert_eq!((&json["ok"], &json["first_broken"]["link"]), (&false.into(), &"signature".into()));
    }

    #[test]
    fn nothing_broken_is_said_too() {
        let mut chain = Chain::default();
        chain.skipped("clock", "no answer had a `Date`");
        assert!(chain.first_broken().is_none());
        assert!(chain.as_text().stderr.starts_with("nothing is broken"));
        assert_eq!(chain.as_json()["ok"], true);
    }
}
