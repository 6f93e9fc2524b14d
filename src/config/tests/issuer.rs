//! `[[issuer]]`.

use super::*;

const ISSUER: &str = r#"
[[issuer]]
issuer = "https://issuer.example"
audience = "hallmark"
jwks_file = "jwks.json"
"#;

fn errors(more: &str) -> String {
    let text = [MINIMAL, CLIENT, ISSUER, more].concat();
    load_text(&text).1.map(drop).map_err(|error| error.to_string()).err().unwrap_or_default()
}

#[test]
fn an_issuer_must_have_an_algorithm() {
    assert_eq!(errors(""), "");
    assert_eq!(errors("algorithms = [\"ES256\"]"), "");
    let none = errors("algorithms = []");
    assert!(none.contains("`algorithms` in [[issuer]] is empty"), "{none}");
    assert!(none.contains("write `algorithms = [\"RS256\"]`"), "{none}");
    for symmetric in ["HS256", "none"] {
        let refused = errors(&format!("algorithms = [\"{symmetric}\"]"));
        assert!(refused.contains("algorithms") && refused.contains("hint"), "{refused}");
    }
}
