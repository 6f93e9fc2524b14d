//! `hallmark rotation plan`: what happens to keys by itself, and when.

use std::{path::PathBuf, time::SystemTime};

use hallmark_client::UpcomingStep;
use serde_json::{Value, json};

use super::{
    Failure,
    args::{PlanArgs, RotationCommand},
    connect::{As, connect, failure},
    output::{Output, distance, now, table, time},
    rehearse,
};

pub(super) async fn run(command: RotationCommand, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    match command {
        RotationCommand::Plan(args) => plan(args, connection, json).await,
        RotationCommand::Rehearse(args) => rehearse::run(args, connection, json).await,
    }
}

async fn plan(args: PlanArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let now = now();
    let until = now.checked_add(args.until).filter(|until| *until <= year_9999());
    let until = until.ok_or_else(|| Failure::new("that is too far ahead").hint("say, for example, `--until 1y`"))?;
    let client = args.client.as_deref();
    let steps = connect(connection, As::Operator)?.plan_rotation(client, until).await;
    let steps = steps.map_err(|error| failure(&error, client.unwrap_or("CLIENT")))?;
    if json { as_json(&steps, until) } else { as_text(&steps, now, until) }.print()
}

fn as_text(steps: &[UpcomingStep], now: SystemTime, until: SystemTime) -> Output {
    if steps.is_empty() {
        let stderr = format!("nothing is going to happen until {}\n", time(until));
        return Output { stdout: String::new(), stderr };
    }
    let head = ["WHEN (UTC)", "", "CLIENT", "LINE", "WHAT", "KID", "WHY"].map(str::to_owned);
    let row = |step: &UpcomingStep| {
        let why = match &step.blocked {
            Some(blocked) => format!("{}; waits: {blocked}", step.reason),
            None => step.reason.clone(),
        };
        [
            time(step.at),
            distance(now, step.at),
            step.client.clone(),
            format!("{} on {}", step.alg, step.hsm),
            step.what.clone(),
            step.kid.clone().unwrap_or_else(|| "-".to_owned()),
            why,
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(steps.iter().map(row)).collect();
    let stderr = format!("until {}, if nobody changes anything and every HSM is there\n", time(until));
    Output { stdout: table(&rows), stderr }
}

fn as_json(steps: &[UpcomingStep], until: SystemTime) -> Output {
    let steps: Vec<_> = steps.iter().map(step_as_json).collect();
    Output::json(&json!({ "until": time(until), "steps": steps }))
}

/// A step, as listings of keys have it too.
pub(super) fn step_as_json(step: &UpcomingStep) -> Value {
    json!({
        "at": time(step.at),
        "client": step.client,
        "alg": step.alg,
        "hsm": step.hsm,
        "key_id": step.key_id,
        "kid": step.kid,
        "what": step.what,
        "reason": step.reason,
        "blocked": step.blocked,
    })
}

/// What RFC 3339 can write ends with it.
fn year_9999() -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(hours: i64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000).saturating_add(Duration::from_secs(hours.unsigned_abs() * 3600))
    }

    fn step(hours: i64, what: &str, kid: Option<&str>, reason: &str, blocked: Option<&str>) -> UpcomingStep {
        let text = str::to_owned;
        UpcomingStep {
            at: at(hours),
            client: text("clinic"),
            alg: text("RS384"),
            hsm: text("softhsm"),
            key_id: kid.map(|_| text("id-1")),
            kid: kid.map(text),
            what: text(what),
            reason: text(reason),
            blocked: blocked.map(text),
        }
    }

    fn steps() -> [UpcomingStep; 3] {
        let kid = Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let registration = Some("an operator confirms the registration");
        [
            step(0, "generate", None, "the line lacks a standby", None),
            step(24 * 12, "activate", kid, "rotate = 90d is over", registration),
            step(24 * 400, "destroy", Some("old"), "retired for 30 days", None),
        ]
    }

    #[test]
    fn for_people() {
        let whole = |output: Output| format!("{}--- stderr\n{}", output.stdout, output.stderr);
        insta::assert_snapshot!(whole(as_text(&steps(), at(0), at(24 * 500))));
        insta::assert_snapshot!(whole(as_text(&[], at(0), at(24))), @r"
        --- stderr
        nothing is going to happen until 2027-01-16T08:00:00Z
        ");
    }

    #[test]
    fn for_programs() {
        insta::assert_snapshot!(as_json(&steps()[..2], at(24)).stdout);
    }
}
