use tonic_types::ErrorDetails;

use super::*;

fn status(code: Code, reason: &str, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, []);
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(code, "text", details)
}

#[test]
fn a_retry_makes_sense_unless_an_operator_is_needed() {
    let later = Error::from(status(Code::Unavailable, "HSM_UNAVAILABLE", Some(Duration::from_millis(250))));
    assert_eq!((later.reason(), later.remedy()), ("HSM_UNAVAILABLE", Remedy::RetryLater));
    assert_eq!(later.retry_after(), Some(Duration::from_millis(250)));
    let untimed = Error::from(status(Code::Unavailable, "SHUTTING_DOWN", None));
    assert_eq!((untimed.reason(), untimed.remedy()), ("SHUTTING_DOWN", Remedy::RetryLater));
    let operator = Error::from(status(Code::Unavailable, "PIN_REFUSED", None));
    assert_eq!((operator.reason(), operator.remedy()), ("PIN_REFUSED", Remedy::CallOperator));
}

#[test]
fn a_reason_of_another_domain_is_not_ours() {
    let details = ErrorDetails::with_error_info("QUOTA", "example.com", []);
    let error = Error::from(Status::with_error_details(Code::ResourceExhausted, "text", details));
    assert_eq!((error.reason(), error.remedy()), ("RESOURCE_EXHAUSTED", Remedy::RetryLater));
}
