//! `hallmark register --post`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hallmark_client::{Client, KeyChoice, Order, Recorded, Registration};
use hallmark_core::registration::{Application, Facts, Form, Handed, udap_request};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    Failure,
    answer::{Answer, Keeper},
    change_as_json, endpoint, fixed, order, outcome, printable, printable_lines,
};
use crate::{
    cli::{
        args::RegisterArgs,
        connect::failure,
        consent::{Consent, ask, quoted},
        failure::USAGE,
        output::Output,
        urls::refuse_userinfo,
    },
    verifier::{Limits, Verifier, is_exposed},
};

/// Whether to ask, before anything is looked up.
pub(super) fn consent(args: &RegisterArgs) -> Result<Consent, Failure> {
    let mut command = format!("hallmark register {} --post", quoted(&args.client));
    if let Some(url) = &args.url {
        refuse_userinfo("`--url`", url)?;
        command += &format!(" --url {}", quoted(url));
    }
    Consent::find(args.yes, &command)
}

pub(super) async fn run(
    hallmark: &Client,
    args: &RegisterArgs,
    facts: &Facts,
    application: &Application,
    consent: Consent,
    json: bool,
) -> Result<u8, Failure> {
    check(args, facts)?;
    check_replaced(hallmark, args).await?;
    let form = form(application);
    said(&form)?;
    let bearer = args.initial_access_token.as_deref().map(read_secret).transpose()?;
    let verifier = Verifier::new(args.ca.as_deref()).map_err(|error| Failure::new(error.to_string()))?;
    let url = endpoint::find(&verifier, facts, args.url.as_deref()).await?;
    refuse_exposed(&url)?;
    if consent == Consent::ToAsk {
        ask(&told(&url, &said(&form)?, application, bearer.is_some()))?;
    }
    let (answer, kept) = send(hallmark, args, &url, &form, &verifier, bearer.as_ref()).await?;
    if !answer.is_registered() {
        return Err(with_file(answer.refusal(facts.profile), &kept));
    }
    // First of all Hallmark knows; then it is said where secrets are, or that they could not be kept.
    let recorded = record(hallmark, args, &url, &answer).await.map_err(|failure| with_file(failure, &kept))?;
    let done = Done { url, answer, kept: kept?, recorded };
    if json { Output::json(&done.as_json(&args.client)) } else { done.as_text(&args.client) }.print()
}

/// Others could read the secrets that come back, and change what is registered.
fn refuse_exposed(url: &str) -> Result<(), Failure> {
    if !is_exposed(url) {
        return Ok(());
    }
    let text = "nothing is sent: with plain http others could read the secrets, and change what is registered";
    Err(Failure::new(text).hint("name an https URL: --url").with_exit_code(USAGE))
}

/// Says where the answer is, or why it is nowhere.
fn with_file(failure: Failure, kept: &Result<Option<PathBuf>, Failure>) -> Failure {
    match kept {
        Ok(None) => failure,
        Ok(Some(path)) => {
            let path = path.display().to_string();
            failure.note(format!("the whole answer is in `{path}`, for you alone")).detail("kept_in", path)
        }
        Err(why) => failure.note(why.render(false)),
    }
}

/// Gives the answer, and the file that has all of it where there are secrets in it.
async fn send(
    hallmark: &Client,
    args: &RegisterArgs,
    url: &str,
    form: &Form,
    verifier: &Verifier,
    bearer: Option<&SecretString>,
) -> Result<(Answer, Result<Option<PathBuf>, Failure>), Failure> {
    let path = args.answer.clone().unwrap_or_else(|| PathBuf::from(format!("{}.registration.json", args.client)));
    let keeper = Keeper::new(&path)?;
    let sent = async {
        let document = body(hallmark, args, url, form).await?;
        verifier.post(url, &document, bearer, LIMITS).await.map_err(|error| {
            let text = format!("the registration endpoint `{}`: {}", printable(url), printable(&error.to_string()));
            Failure::new(text).hint("whether it was registered is not known: look there before trying again")
        })
    };
    match sent.await {
        Ok(answered) => {
            let answer = Answer::read(&answered);
            let kept = keeper.keep(&answer, answered.body.as_deref().unwrap_or_default());
            Ok((answer, kept))
        }
        Err(failure) => {
            keeper.discard();
            Err(failure)
        }
    }
}

fn check(args: &RegisterArgs, facts: &Facts) -> Result<(), Failure> {
    if let Some(id) = facts.client_id.as_ref().filter(|_| !args.again) {
        let text = format!("nothing is sent: `{}` is registered already, as `{id}`", args.client);
        return Err(Failure::new(text).hint("if it is to be registered once more: --again").with_exit_code(USAGE));
    }
    Ok(())
}

/// Hallmark would refuse to record what comes back, and what was registered would be nobody's.
async fn check_replaced(hallmark: &Client, args: &RegisterArgs) -> Result<(), Failure> {
    if args.force || !args.again {
        return Ok(());
    }
    let known = hallmark.oauth_client(&args.client).await.map_err(|error| failure(&error, &args.client))?;
    let Some(id) = &known.recorded_client_id else { return Ok(()) };
    let text = match fixed(&known) {
        Some(fixed) => format!(
            "nothing is sent: `{}` is recorded as `{id}`, which would be replaced, and signs as `{fixed}`, which the server's \
             configuration fixes",
            known.name
        ),
        None => {
            format!("nothing is sent: `{}` is recorded as `{id}`, and would sign as another client at once", known.name)
        }
    };
    Err(Failure::new(text).hint("if it is to: --again --force, with role `destroy`").with_exit_code(USAGE))
}

/// What is sent: what the profile asks for, or what it has for versions that need nobody's hands.
fn form(application: &Application) -> Form {
    let handed = application.handouts.iter().find_map(|(_, handed)| match handed {
        Handed::Document(document) => Some(Form::Document(document.clone())),
        Handed::Text(_) => None,
    });
    match (&application.form, handed) {
        (Form::ByHand, Some(document)) => document,
        (form, _) => form.clone(),
    }
}

/// What the request says of the client.
fn said(form: &Form) -> Result<Value, Failure> {
    match form {
        Form::Document(document) => Ok(document.clone()),
        Form::SoftwareStatement { metadata, issuer: Ok(issuer) } => {
            Ok(json!({ "software_statement": { "iss": issuer, "sub": issuer, "…": metadata } }))
        }
        Form::SoftwareStatement { issuer: Err(missing), .. } => {
            Err(Failure::new(format!("nothing is sent: {missing}")).with_exit_code(USAGE))
        }
        Form::ByHand => {
            let text = "nothing is sent: this kind of authorization server is told by hand";
            Err(Failure::new(text).hint("leave --post out to see what it wants to know").with_exit_code(USAGE))
        }
    }
}

/// The body of the request. A software statement is signed for this very endpoint, and is good for five minutes.
async fn body(hallmark: &Client, args: &RegisterArgs, url: &str, form: &Form) -> Result<Value, Failure> {
    let said = said(form)?;
    let Form::SoftwareStatement { metadata, issuer: Ok(issuer) } = form else { return Ok(said) };
    let (key, metadata) = (KeyChoice::active(&args.client), metadata.to_string());
    let order = Order::new(reason(args, url));
    let signed = hallmark.sign_software_statement(key, url, Some(issuer), metadata.as_bytes(), order).await;
    Ok(udap_request(&signed.map_err(|error| failure(&error, &args.client))?.jwt))
}

/// The audit log takes 1024 bytes, a URL may have more.
fn reason(args: &RegisterArgs, url: &str) -> String {
    args.reason.clone().unwrap_or_else(|| format!("registered at {url}").chars().take(250).collect())
}

fn told(url: &str, document: &Value, application: &Application, with_token: bool) -> String {
    let mut told = format!("to {}:\n{document:#}\n", printable(url));
    if with_token {
        told += "with the initial access token\n";
    }
    told.extend(application.remarks.iter().map(|remark| format!("note: {remark}\n")));
    told
}

/// One line, which is never printed.
fn read_secret(path: &Path) -> Result<SecretString, Failure> {
    let bad = |why: &str| {
        let text = format!("the initial access token in `{}` {why}", path.display());
        Failure::new(text).hint("write the access token and nothing else into that file").with_exit_code(USAGE)
    };
    let text = fs::read_to_string(path).map_err(|error| bad("can't be read").caused_by(&error))?;
    let token = text.trim();
    if token.is_empty() || token.len() > LONGEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("is none"));
    }
    Ok(SecretString::from(token))
}

/// Tells Hallmark. What was registered must not be lost where that fails.
async fn record(hallmark: &Client, args: &RegisterArgs, url: &str, answer: &Answer) -> Result<Recorded, Failure> {
    let client_id = answer.client_id.clone().unwrap_or_default();
    let registration = Registration {
        client: args.client.clone(),
        client_id: client_id.clone(),
        registration_uri: answer.registration_uri.clone(),
    };
    let recorded = hallmark.record_registration(registration, order(args, reason(args, url))).await;
    recorded.map_err(|error| {
        let text = format!("it is registered, as `{client_id}`, and that could not be recorded");
        let cause = failure(&error, &args.client).render(false);
        let force = if args.force { " --force --yes" } else { "" };
        let hint = format!("hallmark register {} --client-id {}{force}", quoted(&args.client), quoted(&client_id));
        Failure::new(text).because(cause).hint(hint).detail("client_id", client_id.clone())
    })
}

/// It is registered, and Hallmark knows.
struct Done {
    url: String,
    answer: Answer,
    kept: Option<PathBuf>,
    recorded: Recorded,
}

impl Done {
    fn as_text(&self, client: &str) -> Output {
        let Answer { status, shown, client_id, secrets, .. } = &self.answer;
        let id = client_id.as_deref().unwrap_or_default();
        let mut stderr = format!("{}: status {status}\n", printable(&self.url));
        let Recorded { change, advice, .. } = &self.recorded;
        stderr += &outcome(change.as_ref(), &format!("recorded: `{client}` signs as `{id}`"), advice);
        if let Some(path) = &self.kept {
            stderr +=
                &format!("the whole answer is in `{}`, for you alone: it has {}\n", path.display(), secrets.join(", "));
            stderr +=
                "keep that where you keep secrets: Hallmark does not need it, a change of the registration does\n";
        }
        stderr +=
            &format!("hint: try it, once people there have done their part: hallmark token {client} --scope SCOPE\n");
        Output { stdout: format!("{shown}\n"), stderr: printable_lines(&stderr) }
    }

    fn as_json(&self, client: &str) -> Value {
        let Answer { status, shown, client_id, secrets, registration_uri } = &self.answer;
        json!({
            "client": client,
            "url": self.url,
            "status": status,
            "client_id": client_id,
            "registration_uri": registration_uri,
            "answer": serde_json::from_str::<Value>(shown).unwrap_or_else(|_| shown.as_str().into()),
            "secrets": secrets,
            "kept_in": self.kept,
            "advice": self.recorded.advice,
            "change": self.recorded.change.as_ref().map(change_as_json),
        })
    }
}

const LIMITS: Limits = Limits { bytes: 256 * 1024, redirects: 0, accept: "application/json" };
const LONGEST_TOKEN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_by_hand_is_not_posted() {
        let mut application =
            Application { form: Form::ByHand, fields: vec![], handouts: vec![], steps: &[], remarks: vec![] };
        let refused = said(&form(&application)).expect_err("nothing to send");
        assert!(refused.exit_code() == USAGE && refused.render(false).contains("by hand"), "{refused:?}");
        let document = json!({ "client_name": "clinic" });
        application.handouts.push(("newer versions", Handed::Document(document.clone())));
        assert_eq!(said(&form(&application)), Ok(document));
    }

    #[test]
    fn plain_http_goes_no_further_than_this_machine() {
        assert_eq!(refuse_exposed("http://as.example/r").unwrap_err().exit_code(), USAGE);
        assert!(refuse_exposed("http://127.0.0.1:8/r").is_ok() && refuse_exposed("https://as.example/r").is_ok());
    }

    #[test]
    fn a_failure_names_the_file_of_the_answer() {
        let failed = with_file(Failure::new("not recorded"), &Ok(Some(PathBuf::from("c.registration.json"))));
        assert!([true, false].iter().all(|json| failed.render(*json).contains("c.registration.json")), "{failed:?}");
    }

    #[test]
    fn an_initial_access_token_is_one_word() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bad in ["", "\n", "two words", &"x".repeat(LONGEST_TOKEN + 1)] {
            fs::write(file.path(), bad).unwrap();
            let refused = read_secret(file.path()).expect_err("no token").render(false);
            assert!(!refused.contains("two words"), "{refused}");
        }
        fs::write(file.path(), "t0k3n\r\n").unwrap();
        assert!(read_secret(file.path()).is_ok());
        assert!(read_secret(Path::new("/nowhere")).is_err());
    }
}
