//! Between the messages of `hallmark.v1` and the types of the rules.

use std::{fmt, str::FromStr, time::Duration};

use hallmark_core::{
    assertion,
    error::{Error, Reason},
    key::{HsmName, KeyRecord, KeyState},
    policy::{AssertionRequest, Claims},
    ports::Proposed,
    time::Timestamp,
};
use hallmark_proto::v1;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::service::{
    keys::{Changed, Stray},
    rotation::Upcoming,
    sign::Reply,
};

/// More extra claims than any profile knows of.
const MAX_CLAIMS: usize = 64;
/// Texts that go into the token request or the audit log.
pub(super) const MAX_TEXT: usize = 8 * 1024;

pub(super) fn assertion_request(message: v1::SignAssertionRequest) -> Result<AssertionRequest, Error> {
    Ok(AssertionRequest {
        client: name("client", &message.client)?,
        alg: optional_name("alg", &message.alg)?,
        audience: text("audience", message.audience)?,
        lifetime: message.lifetime.map(|lifetime| duration("lifetime", &lifetime)).transpose()?,
        scope: text("scope", message.scope)?,
        claims: claims(&message.claims_json)?,
    })
}

pub(super) fn assertion_response(reply: Reply) -> v1::SignAssertionResponse {
    let Reply { assertion, token_request } = reply;
    v1::SignAssertionResponse {
        assertion: assertion.compact,
        kid: assertion.kid.to_string(),
        alg: assertion.alg.to_string(),
        jti: assertion.stamp.jti,
        issued_at: Some(timestamp(assertion.stamp.issued_at)),
        expires_at: Some(timestamp(assertion.stamp.expires_at)),
        token_request: Some(token_request_message(token_request)),
    }
}

fn token_request_message(request: assertion::TokenRequest) -> v1::TokenRequest {
    v1::TokenRequest {
        method: request.method.to_owned(),
        url: request.url,
        content_type: request.content_type.to_owned(),
        form: request.form.into_iter().map(|(name, value)| v1::FormField { name, value }).collect(),
        headers: Vec::new(),
    }
}

pub(super) fn key(record: &KeyRecord) -> v1::Key {
    let public = record.public.as_ref();
    let times = &record.times;
    v1::Key {
        id: record.id.to_string(),
        client: record.client.as_ref().map(ToString::to_string).unwrap_or_default(),
        alg: record.alg.to_string(),
        hsm: record.hsm.to_string(),
        kid: public.map(|public| public.kid.to_string()).unwrap_or_default(),
        state: state(record.state).into(),
        purpose: record.purpose.as_str().to_owned(),
        origin: record.origin.as_str().to_owned(),
        cka_id: record.cka_id.clone(),
        label: record.label.clone(),
        spki: public.map(|public| public.key.spki().to_vec()).unwrap_or_default(),
        created_at: Some(timestamp(times.created)),
        published_at: times.published.map(timestamp),
        activated_at: times.activated.map(timestamp),
        deactivated_at: times.deactivated.map(timestamp),
        retired_at: times.retired.map(timestamp),
        compromised_at: times.compromised.map(timestamp),
        destroyed_at: times.destroyed.map(timestamp),
        absent: false,
        next_step: None,
        certificate_chain: record.certificate_chain.clone(),
        certificate: super::certificates::leaf(record),
        certificate_missing: false,
    }
}

pub(super) fn upcoming(step: Upcoming) -> v1::UpcomingStep {
    v1::UpcomingStep {
        at: Some(timestamp(step.at)),
        client: step.client.to_string(),
        alg: step.line.alg.to_string(),
        hsm: step.line.hsm.to_string(),
        key_id: step.key.map(|key| key.to_string()).unwrap_or_default(),
        kid: step.kid.map(|kid| kid.to_string()).unwrap_or_default(),
        what: step.what,
        reason: step.reason,
        blocked: step.blocked.unwrap_or_default(),
    }
}

pub(super) fn stray(stray: Stray) -> v1::Stray {
    let kid = stray.kid.map(|kid| kid.to_string()).unwrap_or_default();
    v1::Stray { hsm: stray.hsm.to_string(), cka_id: stray.cka_id, label: stray.label, kid }
}

pub(super) fn look((hsm, at): &(HsmName, Timestamp)) -> v1::HsmLook {
    v1::HsmLook { hsm: hsm.to_string(), at: Some(timestamp(*at)) }
}

pub(super) fn key_change(changed: &Changed) -> v1::KeyChange {
    use hallmark_core::ports::ChangeState;
    let state = match changed.change.state {
        ChangeState::Applied => v1::key_change::State::Applied,
        ChangeState::AwaitingApproval => v1::key_change::State::AwaitingApproval,
        ChangeState::Running => v1::key_change::State::Running,
        // Told in listings alone: who asked for a change that failed gets an error.
        ChangeState::Failed => v1::key_change::State::Failed,
        ChangeState::Denied => v1::key_change::State::Denied,
        ChangeState::Expired => v1::key_change::State::Expired,
    };
    v1::KeyChange {
        id: changed.change.id.clone(),
        state: state.into(),
        keys: changed.keys.iter().map(key).collect(),
        in_force_everywhere_at: changed.in_force_everywhere_at.map(timestamp),
        advice: changed.advice.clone(),
        approval: changed.approval.as_deref().map(approval),
    }
}

fn approval(proposed: &Proposed) -> v1::Approval {
    let Proposed { change, plan, expires, decision, .. } = proposed;
    let (decided_by, decision_reason) =
        decision.as_ref().map(|decision| (decision.by.clone(), decision.reason.clone())).unwrap_or_default();
    v1::Approval {
        what: change.request.clone(),
        client: change.client.to_string(),
        proposed_by: change.operator.clone(),
        reason: change.reason.clone(),
        plan: plan.clone(),
        proposed_at: Some(timestamp(change.created)),
        expires_at: Some(timestamp(*expires)),
        decided_by,
        decision_reason,
    }
}

fn state(state: KeyState) -> v1::KeyState {
    match state {
        KeyState::PreActive => v1::KeyState::PreActive,
        KeyState::Active => v1::KeyState::Active,
        KeyState::Deactivated => v1::KeyState::Deactivated,
        KeyState::Compromised => v1::KeyState::Compromised,
        KeyState::Retired => v1::KeyState::Retired,
        KeyState::Destroyed => v1::KeyState::Destroyed,
    }
}

/// A time that must be there.
pub(super) fn required_time(field: &str, value: Option<&prost_types::Timestamp>) -> Result<Timestamp, Error> {
    let value = value.ok_or_else(|| invalid(field, "is missing"))?;
    let millis =
        value.seconds.checked_mul(1000).and_then(|millis| millis.checked_add((value.nanos / 1_000_000).into()));
    // What RFC 3339 can write: the years 1 to 9999, as `google.protobuf.Timestamp` has it.
    let in_range =
        (-62_135_596_800..=253_402_300_799).contains(&value.seconds) && (0..1_000_000_000).contains(&value.nanos);
    millis.filter(|_| in_range).map(Timestamp::from_millis).ok_or_else(|| invalid(field, "is out of range"))
}

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = time.millis().rem_euclid(1000) * 1_000_000;
    // Unwrap safety: below 10^9.
    prost_types::Timestamp { seconds: time.secs(), nanos: i32::try_from(nanos).unwrap_or_default() }
}

/// `None` only for what no clock holds.
pub(super) fn duration_message(value: Duration) -> Option<prost_types::Duration> {
    value.try_into().ok()
}

pub(super) fn duration(field: &str, value: &prost_types::Duration) -> Result<Duration, Error> {
    Duration::try_from(*value).map_err(|_| invalid(field, "is negative or out of range"))
}

pub(super) fn name<T: FromStr<Err: fmt::Display>>(field: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|error| invalid(field, &format!("{error}")))
}

pub(super) fn optional_name<T: FromStr<Err: fmt::Display>>(field: &str, value: &str) -> Result<Option<T>, Error> {
    if value.is_empty() { Ok(None) } else { name(field, value).map(Some) }
}

pub(super) fn text(field: &str, value: String) -> Result<Option<String>, Error> {
    if value.len() > MAX_TEXT {
        return Err(invalid(field, &format!("is longer than {MAX_TEXT} bytes")));
    }
    Ok((!value.is_empty()).then_some(value))
}

/// A text that the audit log keeps, and that must be there.
pub(super) fn required_text(field: &str, value: String, max: usize) -> Result<String, Error> {
    if value.trim().is_empty() || value.len() > max {
        return Err(invalid(field, &format!("must have 1 to {max} bytes")));
    }
    Ok(value)
}

pub(super) fn invalid(field: &str, why: &str) -> Error {
    Error::new(Reason::InvalidRequest, format!("`{field}` {why}"))
}

/// Reads a JSON object, keeping each value byte for byte and refusing names that come twice.
pub(super) fn claims(json: &[u8]) -> Result<Claims, Error> {
    if json.is_empty() {
        return Ok(Claims::default());
    }
    let error = |error: serde_json::Error| {
        Error::new(Reason::InvalidClaims, format!("`claims_json` is not a JSON object as it should be: {error}"))
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let claims = deserializer.deserialize_map(ClaimsVisitor).map_err(error)?;
    deserializer.end().map_err(error)?;
    Ok(claims)
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut claims: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if claims.len() == MAX_CLAIMS {
                return Err(serde::de::Error::custom("more than 64 claims"));
            }
            if claims.iter().any(|(known, _)| *known == name) {
                return Err(serde::de::Error::custom("a claim that comes twice"));
            }
            claims.push((name, value));
        }
        Ok(Claims(claims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_keep_order_and_bytes() {
        let claims = claims(br#"{"b": 1.0, "a":{"x":[1,2]}}"#).unwrap();
        let texts: Vec<_> = claims.0.iter().map(|(name, value)| (name.as_str(), value.get())).collect();
        assert_eq!(texts, [("b", "1.0"), ("a", r#"{"x":[1,2]}"#)]);
    }

    #[test]
    fn what_is_no_plain_object_is_refused() {
        for bad in [&b"[]"[..], b"1", b"{", b"{} {}", br#"{"a":1,"a":2}"#, b"\xff"] {
            assert_eq!(claims(bad).unwrap_err().reason, Reason::InvalidClaims, "{bad:?}");
        }
    }

    #[test]
    fn fields_say_what_is_wrong_with_them() {
        let message = v1::SignAssertionRequest { client: "No Such".into(), ..Default::default() };
        let error = assertion_request(message).unwrap_err();
        assert_eq!(error.reason, Reason::InvalidRequest);
        assert!(error.message.contains("`client`") && error.message.contains("a-z"), "{}", error.message);
    }

    #[test]
    fn times_before_the_epoch_keep_their_nanos_positive() {
        assert_eq!(timestamp(Timestamp::from_millis(-1)), prost_types::Timestamp { seconds: -1, nanos: 999_000_000 });
    }

    #[test]
    fn times_come_back_as_they_went() {
        for millis in [0, -1, 1_800_000_000_123] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(required_time("until", Some(&timestamp(time))).unwrap(), time);
        }
        let beyond = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        for bad in [None, beyond(i64::MAX, 0), beyond(253_402_300_800, 0), beyond(0, -1), beyond(0, 1_000_000_000)] {
            assert_eq!(required_time("until", bad.as_ref()).unwrap_err().reason, Reason::InvalidRequest, "{bad:?}");
        }
    }

    #[test]
    fn a_step_without_a_key_has_empty_fields_for_it() {
        let step = Upcoming {
            at: Timestamp::from_secs(5),
            client: "clinic".parse().unwrap(),
            key: None,
            kid: None,
            line: hallmark_core::key::KeyLine {
                client: "clinic".parse().unwrap(),
                alg: hallmark_core::key::Alg::RS384,
                hsm: "soft".parse().unwrap(),
            },
            what: "generate".into(),
            reason: "the line lacks a standby".into(),
            blocked: Some("the HSM is away".into()),
        };
        let v1::UpcomingStep { at, client, alg, hsm, key_id, kid, what, reason, blocked } = upcoming(step);
        assert_eq!(at.map(|at| (at.seconds, at.nanos)), Some((5, 0)));
        assert_eq!([client, alg, hsm, key_id, kid].join(" "), "clinic RS384 soft  ");
        assert_eq!([what, reason, blocked].join("; "), "generate; the line lacks a standby; the HSM is away");
    }
}
