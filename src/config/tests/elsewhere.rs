//! HSMs that another replica has.

use super::*;

const OTHER: &str = "[[hsm]]\nname = \"second\"\nkind = \"elsewhere\"\n";

fn shared(text: &str) -> String {
    text.replace("sqlite:hallmark.db", "postgres:///hallmark?host=/run/postgresql")
}

fn complaint(text: &str) -> String {
    load_text(text).1.expect_err(text).to_string()
}

#[test]
fn clients_have_keys_on_them() {
    let client = CLIENT.replace("[\"main\"]", "[\"main\", \"second\"]");
    let text = [&shared(MINIMAL), OTHER, &client].concat();
    let config = loaded(&text).1;
    assert_eq!(config.hsms.len(), 1);
    assert!(config.hsms_elsewhere.iter().map(HsmName::as_str).eq(["second"]));
    assert_eq!(config.clients[0].hsms.len(), 2);
    let slip = complaint(&text.replace("\"main\", \"second\"", "\"main\", \"secnod\""));
    assert!(slip.contains("unknown HSM: `secnod`") && slip.contains("second"), "{slip}");
}

#[test]
fn they_are_named_and_nothing_else() {
    let told = complaint(&[&shared(MINIMAL), OTHER, "pin_source = \"file:pin\"\n"].concat());
    assert!(told.contains("`pin_source` in [[hsm]] is for an HSM of this replica"), "{told}");
    let told = complaint(&[MINIMAL, OTHER].concat());
    assert!(told.contains("is another replica's") && told.contains("hint: use PostgreSQL"), "{told}");
}
