//! `hallmark discover`: what an authorization server says of itself, as a `[[client]]` section.
//!
//! Contacts the host it was given and no other, sends nothing of ours, and normalises no URL on its way into `aud`.

use futures_util::future::join_all;
use hallmark_core::{
    discovery::{Discovery, Document, Kind},
    key::ClientName,
    profile::Profile,
};

use self::report::{Asked, Report};
use super::{
    Failure,
    args::DiscoverArgs,
    diagnose::{place, unanswered},
    failure::USAGE,
    output::{Output, printable},
    urls::refuse_userinfo,
};
use crate::verifier::{Limits, Unreached, Unseen, Verifier};

mod report;
mod section;

pub(super) async fn run(args: DiscoverArgs, json: bool) -> Result<u8, Failure> {
    let base = base(&args.url)?;
    let profile = args.profile.as_deref().map(named).transpose()?;
    let name = args.name.as_deref().map(client_name).transpose()?;
    let verifier = Verifier::new(args.ca.as_deref()).map_err(|error| Failure::new(error.to_string()))?;
    let asked = join_all(Kind::ALL.map(|kind| ask(&verifier, kind, base))).await;
    let documents = asked.iter().filter_map(|asked| Some((asked.kind, asked.document.clone()?))).collect();
    let discovery = Discovery { url: args.url.clone(), documents };
    let report = Report::new(asked, discovery, profile, name.as_ref());
    if json { Output::json(&report.as_json()) } else { report.as_text() }.print()?;
    Ok(u8::from(!report.has_section()))
}

/// The URL without what leads from it to a document, and without the slash at its end: what is asked for is put after it.
fn base(url: &str) -> Result<&str, Failure> {
    refuse_userinfo("the URL", url)?;
    let schemed = ["https://", "http://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    if !schemed || !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['?', '#']) {
        let failure = Failure::new(format!("not a base URL: `{}`", printable(url))).with_exit_code(USAGE);
        return Err(
            failure.hint("type the FHIR base URL or the issuer: `hallmark discover https://ehr.example.com/fhir/r4`")
        );
    }
    let end = url.find("/.well-known/").unwrap_or(url.len());
    let base = url[..end].trim_end_matches('/');
    Ok(base.strip_suffix("/metadata").unwrap_or(base).trim_end_matches('/'))
}

fn named(name: &str) -> Result<&'static Profile, Failure> {
    Profile::find(name).ok_or_else(|| {
        let failure = Failure::new(format!("unknown profile: `{}`", printable(name))).with_exit_code(USAGE);
        failure.hint("see `hallmark profiles list`")
    })
}

fn client_name(name: &str) -> Result<ClientName, Failure> {
    name.parse().map_err(|error| {
        let failure = Failure::new("`--name` is no name of a client").caused_by(&error).with_exit_code(USAGE);
        failure.hint("leave `--name` out to have it called after the host")
    })
}

/// The documents that there are below `base`.
pub(super) async fn documents(verifier: &Verifier, base: &str) -> Vec<Document> {
    let asked = join_all(Kind::ALL.map(|kind| ask(verifier, kind, base))).await;
    asked.into_iter().filter_map(|asked| asked.document).collect()
}

/// The first place that has the document, or what the last one answered.
async fn ask(verifier: &Verifier, kind: Kind, base: &str) -> Asked {
    let (mut asked, mut answered) = (Asked::of(kind), false);
    for url in kind.urls(base) {
        let outcome = read(verifier, kind, &url).await;
        asked.url = url;
        match outcome {
            Ok(document) => {
                return Asked { document: Some(document), outcome: String::new(), unreached: None, ..asked };
            }
            Err(Lacking { why, unreached }) => {
                answered |= unreached.is_none();
                (asked.outcome, asked.unreached) = (why, unreached.filter(|_| !answered));
            }
        }
    }
    asked
}

/// Why there is no document at one place.
struct Lacking {
    why: String,
    /// Where that is because nothing answered.
    unreached: Option<Unreached>,
}

async fn read(verifier: &Verifier, kind: Kind, url: &str) -> Result<Document, Lacking> {
    let lacking = |why: String| Lacking { why, unreached: None };
    let answer = verifier.ask_within(url, LIMITS).await.map_err(|error| {
        let why = printable(&error.to_string());
        let unreached = if let Unseen::Failed(unreached) = error { Some(unreached) } else { None };
        Lacking { why, unreached }
    })?;
    if answer.status != 200 {
        return Err(lacking(format!("answers {}", answer.status)));
    }
    let body = answer.body.ok_or_else(|| lacking(format!("is larger than {} bytes", LIMITS.bytes)))?;
    kind.read(&body).map_err(|error| lacking(printable(&error.to_string())))
}

/// A CapabilityStatement can have some megabytes. Redirects within the host are followed: several servers send
/// `/.well-known/…` on to where it is.
const LIMITS: Limits =
    Limits { bytes: 8 * 1024 * 1024, redirects: 3, accept: "application/fhir+json, application/json;q=0.9" };

#[cfg(test)]
mod tests;
