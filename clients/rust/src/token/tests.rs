use super::*;

fn described(url: &str) -> TokenRequest {
    let form_type = "application/x-www-form-urlencoded".to_owned();
    TokenRequest {
        method: "POST".to_owned(),
        url: url.to_owned(),
        content_type: form_type,
        form: vec![],
        headers: vec![],
    }
}

#[test]
fn a_url_goes_out_as_it_is_spelled_or_not_at_all() {
    for same in ["https://AS.example:443/a//b/", "http://as.example", "https://as.example/t?x=%7e&y", "https://as/%2F"]
    {
        assert!(url(&described(same)).is_ok(), "{same}");
    }
    for changed in
        ["https://as.example/a/../token", "https://as.example/ä", "https://as.example/t#f", "ftp://as/t", "as/t"]
    {
        assert!(url(&described(changed)).is_err(), "{changed}");
    }
}

#[test]
fn an_access_token_can_not_be_printed() {
    let token = AccessToken::sample("hunter2", None);
    assert!(!format!("{token:?}").contains("hunter2"));
}

#[test]
fn lives_are_read_as_servers_write_them() {
    let life = |json: &str| answer::granted(StatusCode::OK, json.as_bytes(), "url").map(|token| token.granted_for());
    let of = |expires_in: &str| life(&format!(r#"{{"access_token":"t","expires_in":{expires_in}}}"#)).expect("granted");
    assert_eq!(of("300"), Some(Duration::from_secs(300)));
    assert_eq!(of("\"300\""), Some(Duration::from_secs(300)));
    assert_eq!(of("-1"), None);
    assert_eq!(of("1e300"), None);
    assert_eq!(of("null"), None);
    assert!(life(r#"{"access_token":""}"#).is_err());
    assert!(life("<html>").is_err());
}

#[test]
fn retry_after_is_an_hour_at_most() {
    let after = |text: &str| {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().expect("a header"))]);
        retry_after(&headers).map(|after| after.as_secs())
    };
    assert_eq!([after("0"), after(" 30 "), after("3601")], [Some(0), Some(30), Some(3600)]);
    assert_eq!([after("18446744073709551615"), after("99999999999999999999")], [Some(3600); 2]);
    assert_eq!([after(""), after("-1"), after("1.5"), after("Wed, 21 Oct 2015 07:28:00 GMT")], [None; 4]);
}
