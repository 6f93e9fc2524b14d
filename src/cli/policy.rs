//! `hallmark policy`: what the policy lets whom do, and what in it is hardly meant.

use std::path::{Path, PathBuf};

use hallmark_client::{PolicyAnswer, PolicyFinding, PolicyLine, PolicyQuestion};
use hallmark_core::policy::{Explanation, Line, Question, lint::Finding};
use serde_json::{Value, json};

use super::{
    Failure,
    args::{ExplainArgs, FailOn, LintArgs, PolicyCommand},
    check_config,
    connect::{As, connect, failure},
    failure::{CONFIG, USAGE},
    output::Output,
};
use crate::config::{self, Config};

pub(super) async fn run(command: PolicyCommand, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    match command {
        PolicyCommand::Explain(args) => explain(args, connection, json).await,
        PolicyCommand::Lint(args) => lint(args, connection, json).await,
    }
}

async fn explain(args: ExplainArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let answer = match &args.config {
        Some(path) => {
            let question = question(&args).map_err(|why| Failure::new(why).with_exit_code(USAGE))?;
            shown(read(path)?.explain(&question))
        }
        None => {
            let answer = connect(connection, As::Operator)?.explain_policy(remote_question(args)).await;
            answer.map(Answer::from).map_err(|error| failure(&error, "CLIENT"))?
        }
    };
    if json { Output::json(&answer_as_json(&answer)) } else { answer_as_text(&answer) }.print()?;
    Ok(u8::from(!answer.allowed))
}

async fn lint(args: LintArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let findings: Vec<_> = match &args.config {
        Some(path) => read(path)?.lint().into_iter().map(Found::from).collect(),
        None => {
            let findings = connect(connection, As::Operator)?.lint_policy().await;
            findings.map_err(|error| failure(&error, "CLIENT"))?.into_iter().map(Found::from).collect()
        }
    };
    let fails = |found: &Found| match args.fail_on {
        FailOn::Error => found.severity == "error",
        FailOn::Warning => found.severity != "info",
        FailOn::Info => true,
    };
    let failed = findings.iter().any(fails);
    if json { Output::json(&findings_as_json(&findings, failed)) } else { findings_as_text(&findings) }.print()?;
    Ok(u8::from(failed))
}

/// What can't be loaded has no policy.
fn read(path: &Path) -> Result<Config, Failure> {
    config::load(path).map_err(|error| {
        let failure = Failure::new(error.to_string()).with_exit_code(CONFIG);
        failure.detail("problems", check_config::problems(&error))
    })
}

fn question(args: &ExplainArgs) -> Result<Question, String> {
    let parsed = |error: &dyn std::fmt::Display| error.to_string();
    match (&args.workload, &args.operator) {
        (Some(workload), _) => Ok(Question::Sign {
            workload: workload.parse().map_err(|error| parsed(&error))?,
            client: args.client.as_deref().unwrap_or_default().parse().map_err(|error| parsed(&error))?,
            audience: args.audience.clone(),
        }),
        (None, operator) => Ok(Question::Operate {
            operator: operator.as_deref().unwrap_or_default().parse().map_err(|error| parsed(&error))?,
            act: args.act.as_deref().unwrap_or_default().parse().map_err(|error| parsed(&error))?,
            force: args.force,
        }),
    }
}

fn remote_question(args: ExplainArgs) -> PolicyQuestion {
    let ExplainArgs { workload, client, audience, operator, act, force, config: _ } = args;
    match workload {
        Some(workload) => PolicyQuestion::Signing { workload, client: client.unwrap_or_default(), audience },
        None => {
            let (operator, act) = (operator.unwrap_or_default(), act.unwrap_or_default());
            PolicyQuestion::Operation { operator, act, force }
        }
    }
}

/// A line as it is shown, from a file here or from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    file: String,
    line: Option<u64>,
    section: String,
}

/// An answer as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    allowed: bool,
    reason: Option<String>,
    why: String,
    by: Option<Place>,
    vouched_by: Vec<Place>,
    hint: Option<String>,
}

/// A finding as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    severity: String,
    code: String,
    what: String,
    hint: String,
    place: Place,
}

impl Place {
    fn text(&self) -> String {
        let Self { file, line, section } = self;
        line.map_or_else(|| format!("{file}: {section}"), |line| format!("{file}:{line}: {section}"))
    }

    fn json(&self) -> Value {
        json!({ "file": self.file, "line": self.line, "section": self.section })
    }
}

impl From<Line> for Place {
    fn from(Line { file, line, section }: Line) -> Self {
        Self { file, line: line.and_then(|line| u64::try_from(line).ok()), section }
    }
}

impl From<PolicyLine> for Place {
    fn from(PolicyLine { file, line, section }: PolicyLine) -> Self {
        Self { file, line: line.map(u64::from), section }
    }
}

fn shown(answer: Explanation) -> Answer {
    let Explanation { refused, why, by, vouched_by, hint } = answer;
    Answer {
        allowed: refused.is_none(),
        reason: refused.map(|reason| reason.code().to_owned()),
        why,
        by: by.map(Place::from),
        vouched_by: vouched_by.into_iter().map(Place::from).collect(),
        hint,
    }
}

impl From<PolicyAnswer> for Answer {
    fn from(answer: PolicyAnswer) -> Self {
        let PolicyAnswer { allowed, reason, why, decided_by, vouched_by, hint, .. } = answer;
        let vouched_by = vouched_by.into_iter().map(Place::from).collect();
        Self { allowed, reason, why, by: decided_by.map(Place::from), vouched_by, hint }
    }
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        let Finding { severity, code, what, hint, line } = finding;
        Self { severity: severity.as_str().to_owned(), code: code.to_owned(), what, hint, place: line.into() }
    }
}

impl From<PolicyFinding> for Found {
    fn from(finding: PolicyFinding) -> Self {
        let PolicyFinding { severity, code, what, hint, line, .. } = finding;
        let nowhere = Place { file: String::new(), line: None, section: String::new() };
        Self { severity, code, what, hint, place: line.map_or(nowhere, Place::from) }
    }
}

fn answer_as_text(answer: &Answer) -> Output {
    let verdict = match &answer.reason {
        None => "allowed".to_owned(),
        Some(reason) => format!("refused ({reason})"),
    };
    let mut stdout = format!("{verdict}: {}\n", answer.why);
    if let Some(place) = &answer.by {
        stdout += &format!("  by          {}\n", place.text());
    }
    for place in &answer.vouched_by {
        stdout += &format!("  vouched by  {}\n", place.text());
    }
    if let Some(hint) = &answer.hint {
        stdout += &format!("  hint        {hint}\n");
    }
    Output { stdout, stderr: String::new() }
}

fn answer_as_json(answer: &Answer) -> Value {
    json!({
        "allowed": answer.allowed,
        "reason": answer.reason,
        "why": answer.why,
        "by": answer.by.as_ref().map(Place::json),
        "vouched_by": answer.vouched_by.iter().map(Place::json).collect::<Vec<_>>(),
        "hint": answer.hint,
    })
}

fn findings_as_text(findings: &[Found]) -> Output {
    if findings.is_empty() {
        return Output { stderr: "nothing was found\n".to_owned(), ..Output::default() };
    }
    let one = |found: &Found| {
        let Found { severity, code, what, hint, place } = found;
        format!("{severity}[{code}]: {what}\n  at    {}\n  hint  {hint}\n", place.text())
    };
    Output { stdout: findings.iter().map(one).collect::<Vec<_>>().join("\n"), stderr: String::new() }
}

fn findings_as_json(findings: &[Found], failed: bool) -> Value {
    let one = |found: &Found| {
        let Found { severity, code, what, hint, place } = found;
        json!({ "severity": severity, "code": code, "what": what, "hint": hint, "at": place.json() })
    };
    json!({ "ok": !failed, "findings": findings.iter().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests;
