//! The one place where errors become gRPC status.

use std::collections::HashMap;

use hallmark_core::error::{Error, Reason, Remedy};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "hallmark";

/// What a caller may know of `error`: its message, its reason code, and when to try again. The rest goes to the log.
///
/// The caller and the log get the same request id.
pub fn to_status(error: &Error, request_id: &str) -> Status {
    if error.reason.remedy() == Remedy::ReportBug {
        tracing::error!(request_id, %error, reason = error.reason.code(), "internal error");
    } else {
        tracing::info!(request_id, %error, reason = error.reason.code(), "request refused");
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason.code(), DOMAIN, HashMap::new());
    details.set_request_info(request_id, "");
    if let Some(delay) = error.retry_after.filter(|_| error.reason.says_when()) {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code(error.reason), error.message.clone(), details)
}

fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidRequest
        | Reason::InvalidClaims
        | Reason::InvalidCertificate
        | Reason::ReservedClaim
        | Reason::AlgNotConfigured
        | Reason::LifetimeTooLong
        | Reason::KeyState
        | Reason::ChangeDecided
        | Reason::ChangeOutdated
        | Reason::RequestIdReused => Code::InvalidArgument,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::AlreadyExists => Code::AlreadyExists,
        Reason::KeyNotFound | Reason::ChangeNotFound => Code::NotFound,
        Reason::NotAuthenticated
        | Reason::CertificateUntrusted
        | Reason::IdentityInvalid
        | Reason::CertificateExpired
        | Reason::TokenInvalid
        | Reason::TokenExpired => Code::Unauthenticated,
        Reason::WorkloadUnknown
        | Reason::NotAnOperator
        | Reason::SameOperator
        | Reason::ClientNotPermitted
        | Reason::AudienceNotPermitted
        | Reason::ClaimNotPermitted => Code::PermissionDenied,
        Reason::RateLimited | Reason::ConcurrencyLimited | Reason::Overloaded => Code::ResourceExhausted,
        Reason::HsmUnavailable
        | Reason::ShuttingDown
        | Reason::IssuerUnavailable
        | Reason::StoreUnavailable
        | Reason::KeyChanged
        | Reason::PinRefused
        | Reason::KeyQuarantined
        | Reason::AuditUnavailable => Code::Unavailable,
        Reason::NotRegistered
        | Reason::NoActiveKey
        | Reason::NoCertificate
        | Reason::GateShut
        | Reason::HsmRefused
        | Reason::StoreCorrupt
        | Reason::KeyAbsent
        | Reason::CustodyTooWeak
        | Reason::AlgUnsupported => Code::FailedPrecondition,
        Reason::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_caller_gets_reason_and_delay_but_no_detail() {
        let error = Error::new(Reason::HsmUnavailable, "not available")
            .with_detail("CKR_DEVICE_REMOVED on slot 7")
            .retry_after(Duration::from_secs(1));
        let status = to_status(&error, "r-1");
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "not available"));
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "HSM_UNAVAILABLE");
        assert_eq!(details.error_info().unwrap().domain, "hallmark");
        assert_eq!(details.request_info().unwrap().request_id, "r-1");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
        assert!(!format!("{status:?}").contains("slot 7"));
    }

    #[test]
    fn callers_are_told_when_to_come_back_where_that_is_known() {
        for reason in Reason::ALL {
            let error = Error::new(*reason, "no").retry_after(Duration::from_secs(1));
            let told = to_status(&error, "r-1").get_details_retry_info().is_some();
            let known = reason.remedy() == Remedy::RetryLater || *reason == Reason::KeyQuarantined;
            assert_eq!(told, known, "{}", reason.code());
        }
    }

    #[test]
    fn what_is_worth_a_retry_says_so_by_its_code() {
        let worth = [Code::Unavailable, Code::ResourceExhausted];
        for reason in Reason::ALL.iter().filter(|reason| reason.remedy() == Remedy::RetryLater) {
            assert!(worth.contains(&code(*reason)), "{}", reason.code());
        }
    }

    /// `docs/errors.md` has a table for each remedy, and in it a row for each of its reasons, in this order.
    #[test]
    fn the_documentation_lists_every_reason() {
        let docs = include_str!("../../../docs/errors.md");
        let documented: Vec<_> =
            docs.lines().filter(|line| line.starts_with("## ") || line.starts_with("| `")).collect();
        let heading = |remedy| match remedy {
            Remedy::FixRequest => "## Fix the request",
            Remedy::AskPermission => "## Ask for permission",
            Remedy::RetryLater => "## Wait and retry",
            Remedy::CallOperator => "## Call an operator",
            Remedy::ReportBug => "## Report a bug",
        };
        let mut expected: Vec<String> = Vec::new();
        for reason in Reason::ALL {
            let heading = heading(reason.remedy()).to_owned();
            if !expected.contains(&heading) {
                expected.push(heading);
            }
            // `InvalidArgument` is `INVALID_ARGUMENT` in every other language.
            let status = format!("{:?}", code(*reason));
            let upper = |c: char| [c.is_uppercase().then_some('_'), Some(c.to_ascii_uppercase())];
            let status: String = status.chars().flat_map(upper).flatten().skip(1).collect();
            expected.push(format!("| `{}` | `{status}` | {} |", reason.code(), reason.meaning()));
        }
        assert_eq!(documented, expected, "docs/errors.md should have\n{}", expected.join("\n"));
    }

    #[test]
    fn operators_find_what_to_do_for_each_reason_that_calls_them() {
        let page = include_str!("../../../docs/OPERATIONS.md");
        let theirs = Reason::ALL.iter().filter(|reason| reason.remedy() == Remedy::CallOperator);
        let missing: Vec<_> =
            theirs.map(|reason| reason.code()).filter(|code| !page.contains(&format!("`{code}`"))).collect();
        assert!(missing.is_empty(), "not in docs/OPERATIONS.md: {missing:?}");
    }
}
