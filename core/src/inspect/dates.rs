//! `iat`, `nbf` and `exp`: what they are, when they are, and how far apart.

use std::time::Duration;

use serde_json::Value;

use super::{
    Cited, Context, Part, Report, Severity,
    header::{as_text, presence},
    text::{kind, quoted, span},
};

/// What the dates are meant to be, in seconds, whatever they were written as.
struct Dates {
    iat: Option<i64>,
    nbf: Option<i64>,
    exp: Option<i64>,
    now: i64,
    skew: i64,
}

pub(super) fn check(claims: &Part, context: &Context<'_>, report: &mut Report) {
    let accepts = &context.profile.accepts;
    let dates = Dates {
        iat: date("iat", claims, report),
        nbf: date("nbf", claims, report),
        exp: date("exp", claims, report),
        now: context.now.secs(),
        skew: seconds(accepts.skew.is),
    };
    if claims.get("exp").is_none() {
        let rule = Cited::specified("RFC 7523 §3, point 4");
        report.add(Severity::Error, "exp", "`exp` is missing", "say when it expires: now + 300 s at the most", rule);
    }
    presence("iat", claims.get("iat").is_some(), &accepts.iat, "the time of signing, in seconds", report);
    presence("nbf", claims.get("nbf").is_some(), &accepts.nbf, "the time of signing, in seconds", report);
    let local = local_time(&dates, report);
    expiry(&dates, report);
    beginning(&dates, local, context, report);
    lifetime(&dates, local, context, report);
    whole_minutes(&dates, report);
}

/// Reads a date however it was written, and says what is wrong with the way.
fn date(name: &str, claims: &Part, report: &mut Report) -> Option<i64> {
    let rule = Cited::specified("RFC 7519 §2, NumericDate");
    let hint = "write seconds since 1970 in UTC as a JSON number without quotes";
    let value = claims.get(name)?;
    let written = match value {
        Value::Number(number) => match number.as_i64() {
            Some(seconds) => seconds,
            None => {
                let what = format!("`{name}` is no integer: {}", quoted(&as_text(value)));
                report.add(Severity::Warning, name, what, "write whole seconds: some servers refuse fractions", rule);
                whole(number.as_f64()?)?
            }
        },
        Value::String(text) => {
            let what = format!("`{name}` is a string, {}: dates are numbers", quoted(text));
            report.add(
                Severity::Error,
                name,
                what,
                hint,
                Cited::measured("oidc-provider, Authlib and Glewlwyd refuse it"),
            );
            text.trim().parse().ok()?
        }
        other => {
            let what = format!("`{name}` is {}, not a number", kind(other));
            report.add(Severity::Error, name, what, hint, rule);
            return None;
        }
    };
    let mut seconds = written;
    while seconds.unsigned_abs() >= TOO_MANY {
        seconds /= 1000;
    }
    if seconds != written {
        let what = format!("`{name}` is {written}: that is milliseconds or less, not seconds");
        report.add(Severity::Error, name, what, "divide by 1000", Cited::specified("RFC 7519 §2, NumericDate"));
    }
    Some(seconds)
}

/// The year 5138: no date in seconds is later, and each one in milliseconds since 1973 is.
const TOO_MANY: u64 = 100_000_000_000;

#[expect(clippy::cast_possible_truncation, reason = "checked to be within the range")]
fn whole(number: f64) -> Option<i64> {
    (number.is_finite() && number.abs() < 9e18).then_some(number as i64)
}

fn expiry(dates: &Dates, report: &mut Report) {
    let Some(exp) = dates.exp else { return };
    let ago = dates.now.saturating_sub(exp);
    let rule = Cited::specified("RFC 7519 §4.1.4");
    let hint = "sign a new one for each token request; if it is new, look at the clock of whoever signed";
    if ago > dates.skew {
        report.add(Severity::Error, "exp", format!("it expired {} ago", span(ago)), hint, rule);
    } else if ago >= 0 {
        let what = format!("it expired {} ago, which only the server's tolerance of clocks forgives", span(ago));
        report.add(Severity::Warning, "exp", what, hint, rule);
    }
}

fn beginning(dates: &Dates, local: bool, context: &Context<'_>, report: &mut Report) {
    if let Some(nbf) = dates.nbf {
        let rule = Cited::specified("RFC 7519 §4.1.5");
        if dates.exp == Some(nbf) {
            let hint = "leave `nbf` out, or make it the time of signing";
            report.add(Severity::Error, "nbf", "`nbf` equals `exp`: it is valid at no instant", hint, rule);
        } else if dates.exp.is_some_and(|exp| nbf > exp) {
            report.add(
                Severity::Error,
                "nbf",
                "`nbf` is after `exp`: it is valid at no instant",
                "leave `nbf` out",
                rule,
            );
        } else if !local && nbf.saturating_sub(dates.now) > dates.skew {
            let what = format!("`nbf` is {} in the future", span(nbf.saturating_sub(dates.now)));
            report.add(Severity::Error, "nbf", what, "leave `nbf` out, or make it some seconds ago", rule);
        }
    }
    let Some(iat) = dates.iat else { return };
    let accepts = &context.profile.accepts;
    let age = dates.now.saturating_sub(iat);
    if !local && -age > dates.skew {
        let what = format!("`iat` is {} in the future", span(age));
        report.broken("iat", what, "set the clock, and `iat` some seconds into the past", Cited::of(&accepts.skew));
    }
    if let Some(oldest) = accepts.iat_age.is.map(seconds).filter(|oldest| age > oldest.saturating_add(dates.skew)) {
        let what = format!("`iat` is {} old, and {} are taken", span(age), span(oldest));
        report.broken("iat", what, "sign a new one for each token request", Cited::of(&accepts.iat_age));
    }
}

fn lifetime(dates: &Dates, local: bool, context: &Context<'_>, report: &mut Report) {
    let rule = &context.profile.accepts.lifetime;
    let Some(exp) = dates.exp else { return };
    if let Some(iat) = dates.iat.filter(|iat| *iat >= exp) {
        let what = if iat == exp { "`exp` equals `iat`" } else { "`exp` is before `iat`" };
        let hint = "`exp` is the time of signing + 300 s at the most";
        report.add(Severity::Error, "exp", what, hint, Cited::specified("RFC 7519 §4.1.4"));
    }
    let Some(longest) = rule.is.map(seconds) else { return };
    for (name, begin) in [("iat", dates.iat), ("nbf", dates.nbf)] {
        if let Some(lives) = begin.map(|begin| exp.saturating_sub(begin)).filter(|lives| *lives > longest) {
            let what = format!("`exp` is {lives} s after `{name}`, and {longest} s are taken");
            report.broken("exp", what, "shorten it; a backdated `iat` counts too", Cited::of(rule));
        }
    }
    let ahead = exp.saturating_sub(dates.now);
    if !local
        && ahead > longest.saturating_add(dates.skew)
        && dates.iat.is_none_or(|iat| exp.saturating_sub(iat) <= longest)
    {
        let what = format!("`exp` is {} from now, and {longest} s are taken", span(ahead));
        report.broken("exp", what, "shorten it, and look at the clock of whoever signed", Cited::of(rule));
    }
}

/// Whether the dates are right but for a time zone: whole quarter hours off, an hour at least and fourteen at most.
fn local_time(dates: &Dates, report: &mut Report) -> bool {
    let Some(begin) = dates.iat.or(dates.nbf) else { return false };
    // Where they contradict each other, no time zone explains it.
    if dates.exp.is_some_and(|exp| exp < begin || exp.saturating_sub(begin) > 3600) {
        return false;
    }
    let off = begin.saturating_sub(dates.now);
    let zones = off.saturating_add(QUARTER / 2).div_euclid(QUARTER);
    let is_zone = (4..=56).contains(&zones.abs()) && off.saturating_sub(zones * QUARTER).abs() <= 90;
    if !is_zone {
        return false;
    }
    let hours = format!("{} h {} min", zones.abs() / 4, zones.abs() % 4 * 15);
    let rule = Cited::heard("seen with stacks that count seconds in local time");
    let hint = "count seconds since 1970 in UTC";
    if off > 0 {
        let what = format!("the dates are {hours} ahead: that is local time, not UTC");
        report.add(Severity::Error, "iat", what, hint, rule);
    } else {
        let what = format!("the dates are {hours} behind: it is that old, or made in local time and not UTC");
        report.add(Severity::Note, "iat", what, hint, rule);
    }
    off > 0
}

const QUARTER: i64 = 900;

fn whole_minutes(dates: &Dates, report: &mut Report) {
    let all: Vec<_> = [dates.iat, dates.nbf, dates.exp].into_iter().flatten().collect();
    if !all.is_empty() && all.iter().all(|date| date % 60 == 0) {
        let what = "all dates are whole minutes: were the seconds lost on the way?";
        let rule = Cited::heard("seen where a text with minutes was taken apart");
        report.add(Severity::Note, "exp", what, "make dates from the clock, not from a formatted text", rule);
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
