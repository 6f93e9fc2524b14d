//! A FHIR CapabilityStatement: the OAuth endpoints are in extensions of `rest.security`.

use serde_json::Value;

use super::{Document, Unreadable};

pub(super) fn read(value: &Value) -> Result<Document, Unreadable> {
    let kind = value.get("resourceType").and_then(Value::as_str);
    if !matches!(kind, Some("CapabilityStatement" | "Conformance")) {
        return Err(Unreadable(format!("is no CapabilityStatement but {}", kind.unwrap_or("something else"))));
    }
    let mut document = Document { software: software(value), ..Document::default() };
    for security in list(value, "rest").filter_map(|rest| rest.get("security")) {
        for extension in list(security, "extension") {
            read_uris(extension, &mut document);
        }
    }
    if document.token_endpoint.is_none() {
        document.oddities.push("no extension `oauth-uris` names a token endpoint".to_owned());
    }
    Ok(document)
}

/// `oauth-uris` of SMART App Launch 1, and Carequality's own, whose `token` is that framework's.
fn read_uris(extension: &Value, document: &mut Document) {
    let name = last_segment(extension);
    let (ordinary, carequality) = (name == "oauth-uris", name == "carequality-oauth-uris");
    if !ordinary && !carequality {
        return;
    }
    for part in list(extension, "extension") {
        let Some(uri) = ["valueUri", "valueUrl", "valueString"].iter().find_map(|name| part.get(*name)?.as_str())
        else {
            continue;
        };
        let slot = match part.get("url").and_then(Value::as_str) {
            Some("token") if carequality => &mut document.carequality_token_endpoint,
            Some("carequality-token") => &mut document.carequality_token_endpoint,
            Some("token") => &mut document.token_endpoint,
            Some("register") if ordinary => &mut document.registration_endpoint,
            _ => continue,
        };
        slot.get_or_insert_with(|| uri.to_owned());
    }
}

/// The last part of an extension's URL: its base has moved from time to time.
fn last_segment(extension: &Value) -> &str {
    let url = extension.get("url").and_then(Value::as_str).unwrap_or_default();
    url.rsplit('/').next().unwrap_or_default()
}

fn software(value: &Value) -> Option<String> {
    let software = value.get("software")?;
    let part = |name| software.get(name).and_then(Value::as_str);
    let name = part("name")?;
    Some(part("version").map_or_else(|| name.to_owned(), |version| format!("{name} {version}")))
}

/// The items of a list; some servers write a single one without the list.
fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    let (items, single) = match value.get(name) {
        Some(Value::Array(items)) => (items.as_slice(), None),
        Some(single @ Value::Object(_)) => (&[][..], Some(single)),
        _ => (&[][..], None),
    };
    items.iter().chain(single)
}
