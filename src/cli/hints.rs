//! What to type next, for each reason that a command may meet.

use hallmark_client::reason;

/// `oauth` is the authorization server's error, where it was the one that refused; `client` the OAuth client that the
/// command is about.
pub(super) fn hint(reason: &str, oauth: Option<&str>, client: &str) -> Option<String> {
    if reason == reason::TOKEN_REFUSED {
        return of_the_authorization_server(oauth?, client);
    }
    of_the_connection(reason)
        .map(str::to_owned)
        .or_else(|| of_keys(reason, client))
        .or_else(|| of_requests(reason, client))
}

fn of_the_authorization_server(error: &str, client: &str) -> Option<String> {
    match error {
        "invalid_scope" => Some("ask for a scope that the client is registered for: --scope".to_owned()),
        "invalid_client" => Some(format!("look what is wrong: hallmark doctor {client}")),
        _ => None,
    }
}

fn of_the_connection(reason: &str) -> Option<&'static str> {
    Some(match reason {
        reason::CONNECTION_INVALID => {
            "`hallmark dev` leaves connection files in .hallmark; --connection FILE names another"
        }
        reason::UNREACHABLE => "is the server up? `hallmark dev` starts one; --connection FILE names another",
        reason::TLS_FAILED => "`ca`, `cert` and `key` of the connection must be for this server",
        reason::TOKEN_ENDPOINT_UNAVAILABLE => {
            "is the authorization server up? its `token_endpoint` is in the client's [[client]]"
        }
        reason::UNEXPECTED_ANSWER | "UNIMPLEMENTED" => {
            "is the server of another version? compare its log with `hallmark --version`"
        }
        "NOT_AN_OPERATOR" => "keys are an operator's: --connection .hallmark/operator.toml",
        "WORKLOAD_UNKNOWN" => "signing is a workload's: --connection .hallmark/workload.toml",
        "NOT_AUTHENTICATED" | "CERTIFICATE_UNTRUSTED" | "IDENTITY_INVALID" | "CERTIFICATE_EXPIRED" => {
            "`cert` of the connection must be valid and from a [[trust]] of the server: \
             openssl x509 -in FILE -noout -dates -ext subjectAltName"
        }
        "TOKEN_INVALID" | "TOKEN_EXPIRED" => {
            "`bearer_token_file` of the connection must hold a token of an [[issuer]] of the server"
        }
        "ISSUER_UNAVAILABLE" => "the server's log says why it can't read the issuer's keys",
        _ => return None,
    })
}

fn of_keys(reason: &str, client: &str) -> Option<String> {
    Some(match reason {
        "NO_CERTIFICATE" => format!("ask for one with: hallmark csr {client}"),
        "NO_ACTIVE_KEY" => format!("make its first keys: hallmark keys create {client} --reason TEXT"),
        "ALREADY_EXISTS" => format!("see what is there: hallmark keys list --client {client}"),
        "CHANGE_NOT_FOUND" | "CHANGE_DECIDED" | "CHANGE_OUTDATED" => "see what waits: hallmark keys changes".to_owned(),
        "SAME_OPERATOR" => "a second operator approves: hallmark keys approve ID --reason TEXT".to_owned(),
        "KEY_NOT_FOUND" => "see what is there: hallmark keys list".to_owned(),
        "KEY_STATE" => format!("see how it stands, and what comes next: hallmark keys timeline {client}"),
        "GATE_SHUT" => format!(
            "repeat the command once nothing of that is in the way (hallmark keys timeline {client} shows how the keys stand); in an \
             emergency an operator with role `destroy` goes past it with --force"
        ),
        "KEY_CHANGED" => "look again, then repeat the command: hallmark keys list".to_owned(),
        "KEY_ABSENT" => {
            "see which, and where: hallmark keys list; put the right token in before anything else".to_owned()
        }
        "KEY_QUARANTINED" => format!(
            "sign with another one meanwhile: hallmark keys rotate {client} --reason TEXT; the server's log says what \
             the HSM answered"
        ),
        "CUSTODY_TOO_WEAK" => {
            "the server's log says what the key lacks; `custody` of the [[client]] says what it needs".to_owned()
        }
        "ALG_NOT_CONFIGURED" => format!("`keys` in the [[client]] of `{client}` says which algorithms it has"),
        "ALG_UNSUPPORTED" => "take another algorithm in `keys` of the [[client]], or another HSM".to_owned(),
        _ => return None,
    })
}

fn of_requests(reason: &str, client: &str) -> Option<String> {
    Some(match reason {
        "NOT_REGISTERED" => {
            format!("see what its authorization server wants to know: hallmark register {client}")
        }
        "REQUEST_ID_REUSED" => "leave --request-id out, or choose a new one".to_owned(),
        reason::DEADLINE_EXCEEDED => {
            "it may go on: see with `hallmark keys list`; with the same --request-id it can be repeated safely"
                .to_owned()
        }
        "HSM_REFUSED" => "the server's log has the HSM's return value, under this request's id".to_owned(),
        "STORE_CORRUPT" => {
            "keep a copy of the store as it is, then see STORE_CORRUPT in docs/OPERATIONS.md; the log says which record"
                .to_owned()
        }
        "STORE_UNAVAILABLE" => "is the database up? the server's log says more".to_owned(),
        "HSM_UNAVAILABLE" | "PIN_REFUSED" | "AUDIT_UNAVAILABLE" => {
            "the server's log and /readyz/sign say more".to_owned()
        }
        "INTERNAL" => "the server's log has the cause; please report it".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use hallmark_core::error::{Reason, Remedy};

    use super::*;

    /// Reasons whose message says all there is to say, or that no command of ours can meet.
    const NEED_NONE: &[&str] = &[
        "INVALID_REQUEST",
        "INVALID_CLAIMS",
        "INVALID_CERTIFICATE",
        "RESERVED_CLAIM",
        "LIFETIME_TOO_LONG",
        "CLIENT_NOT_PERMITTED",
        "AUDIENCE_NOT_PERMITTED",
        "CLAIM_NOT_PERMITTED",
        "RATE_LIMITED",
        "CONCURRENCY_LIMITED",
        "OVERLOADED",
        "SHUTTING_DOWN",
    ];

    #[test]
    fn every_reason_has_a_hint_or_needs_none() {
        let lacking = Reason::ALL.iter().map(|reason| reason.code());
        let lacking: Vec<_> =
            lacking.filter(|code| hint(code, None, "clinic").is_none() != NEED_NONE.contains(code)).collect();
        assert!(lacking.is_empty(), "without a hint, or with one that is not expected: {lacking:?}");
    }

    #[test]
    fn whoever_must_act_is_told_how() {
        for reason in Reason::ALL.iter().filter(|reason| reason.remedy() == Remedy::CallOperator) {
            assert!(hint(reason.code(), None, "clinic").is_some(), "{}", reason.code());
        }
        for code in ["KEY_STATE", "GATE_SHUT"] {
            assert!(hint(code, None, "clinic").is_some_and(|hint| hint.contains("clinic")), "{code}");
        }
    }
}
