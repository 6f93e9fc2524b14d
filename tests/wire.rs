//! The committed descriptor set is what callers out there were built with: the API may grow, never break.
//!
//! After a change that only adds, renew it: `HALLMARK_RENEW=1 cargo test --test e2e wire`.

use std::{collections::BTreeMap, fs, path::PathBuf};

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

#[test]
fn the_wire_does_not_break() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto/hallmark.v1.binpb");
    let now = FileDescriptorSet::decode(hallmark_proto::FILE_DESCRIPTOR_SET).unwrap();
    let committed = FileDescriptorSet::decode(fs::read(&path).unwrap_or_default().as_slice()).unwrap();
    let broken = breaks(&surface(&committed), &surface(&now));
    assert!(broken.is_empty(), "this change breaks callers:\n{}", broken.join("\n"));
    if std::env::var_os("HALLMARK_RENEW").is_some() {
        fs::write(&path, hallmark_proto::FILE_DESCRIPTOR_SET).unwrap();
    }
    let grown: Vec<_> = surface(&now).into_keys().filter(|name| !surface(&committed).contains_key(name)).collect();
    let text = "new in the API but not in proto/hallmark.v1.binpb; renew it with HALLMARK_RENEW=1";
    assert!(grown.is_empty() || std::env::var_os("HALLMARK_RENEW").is_some(), "{text}: {grown:?}");
}

#[test]
fn a_break_is_found() {
    let before = surface(&FileDescriptorSet::decode(hallmark_proto::FILE_DESCRIPTOR_SET).unwrap());
    let mut after = before.clone();
    after.remove("hallmark.v1.SignAssertionRequest.2");
    after.insert("hallmark.v1.SignAssertionRequest.1".into(), "client: bytes".into());
    assert_eq!(breaks(&before, &after).len(), 2);
}

/// Everything that a caller can depend on: what it is called, and what it looks like.
type Surface = BTreeMap<String, String>;

fn breaks(before: &Surface, after: &Surface) -> Vec<String> {
    let gone = |(name, looks): (&String, &String)| match after.get(name) {
        None => Some(format!("{name} ({looks}) is gone")),
        Some(now) if now != looks => Some(format!("{name} was {looks}, is {now}")),
        Some(_) => None,
    };
    before.iter().filter_map(gone).collect()
}

fn surface(set: &FileDescriptorSet) -> Surface {
    let mut surface = Surface::new();
    for file in set.file.iter().filter(|file| file.package().starts_with("hallmark")) {
        let package = file.package();
        for service in &file.service {
            for method in &service.method {
                let looks = format!(
                    "{}{} → {}{}",
                    if method.client_streaming() { "stream " } else { "" },
                    method.input_type(),
                    if method.server_streaming() { "stream " } else { "" },
                    method.output_type()
                );
                surface.insert(format!("{package}.{}/{}", service.name(), method.name()), looks);
            }
        }
        file.message_type.iter().for_each(|message| add_message(&mut surface, package, message));
        file.enum_type.iter().for_each(|values| add_enum(&mut surface, package, values));
    }
    surface
}

fn add_message(surface: &mut Surface, scope: &str, message: &DescriptorProto) {
    let scope = format!("{scope}.{}", message.name());
    for field in &message.field {
        let looks = format!(
            "{}: {:?} {:?} {} {:?}",
            field.name(),
            field.label(),
            field.r#type(),
            field.type_name(),
            field.oneof_index
        );
        surface.insert(format!("{scope}.{}", field.number()), looks);
    }
    message.nested_type.iter().for_each(|nested| add_message(surface, &scope, nested));
    message.enum_type.iter().for_each(|values| add_enum(surface, &scope, values));
}

fn add_enum(surface: &mut Surface, scope: &str, values: &EnumDescriptorProto) {
    for value in &values.value {
        surface.insert(format!("{scope}.{}.{}", values.name(), value.number()), value.name().to_owned());
    }
}
