//! The metadata documents: SMART, OpenID Connect, RFC 8414 and UDAP have their members in common.

use serde_json::{Map, Value};

use super::{Document, Unreadable};

pub(super) fn read(value: &Value) -> Result<Document, Unreadable> {
    let members = value.as_object().ok_or_else(|| Unreadable("is no JSON object".to_owned()))?;
    let mut reader = Reader { members, oddities: Vec::new() };
    let mut document = Document {
        token_endpoint: reader.text("token_endpoint"),
        issuer: reader.text("issuer"),
        registration_endpoint: reader.text("registration_endpoint"),
        auth_methods: reader.list("token_endpoint_auth_methods_supported"),
        signing_algs: reader.list("token_endpoint_auth_signing_alg_values_supported"),
        grant_types: reader.list("grant_types_supported"),
        scopes: reader.list("scopes_supported"),
        capabilities: reader.list("capabilities"),
        ..Document::default()
    };
    reader.note_missing(&document);
    document.oddities = reader.oddities;
    Ok(document)
}

struct Reader<'a> {
    members: &'a Map<String, Value>,
    oddities: Vec<String>,
}

impl Reader<'_> {
    fn text(&mut self, name: &str) -> Option<String> {
        match self.members.get(name)? {
            Value::String(text) if text.is_empty() => self.odd(format!("`{name}` is empty")),
            Value::String(text) => return Some(text.clone()),
            Value::Null => {}
            _ => self.odd(format!("`{name}` is no text")),
        }
        None
    }

    /// A list of texts; a single text is a list of one, or of those that spaces part, as in OAuth's other lists.
    fn list(&mut self, name: &str) -> Vec<String> {
        match self.members.get(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => {
                self.odd(format!("`{name}` is a text, not a list"));
                text.split_whitespace().map(str::to_owned).collect()
            }
            Some(Value::Array(items)) => {
                let texts: Vec<_> = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                if texts.len() != items.len() {
                    self.odd(format!("`{name}` holds what is no text"));
                }
                texts
            }
            Some(_) => {
                self.odd(format!("`{name}` is no list"));
                Vec::new()
            }
        }
    }

    fn note_missing(&mut self, document: &Document) {
        let lacks = |list: &[String], word: &str| !list.iter().any(|item| item == word);
        if document.token_endpoint.is_none() {
            self.odd("there is no `token_endpoint`".to_owned());
        }
        if !document.grant_types.is_empty() && lacks(&document.grant_types, "client_credentials") {
            self.odd("`grant_types_supported` does not list client_credentials".to_owned());
        }
        if !document.auth_methods.is_empty() && lacks(&document.auth_methods, "private_key_jwt") {
            self.odd("`token_endpoint_auth_methods_supported` does not list private_key_jwt".to_owned());
        }
        let symmetric = "client-confidential-symmetric".to_owned();
        if document.capabilities.contains(&symmetric) && lacks(&document.capabilities, "client-confidential-asymmetric")
        {
            self.odd("`capabilities` does not list client-confidential-asymmetric".to_owned());
        }
    }

    fn odd(&mut self, what: String) {
        self.oddities.push(what);
    }
}
