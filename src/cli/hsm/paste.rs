//! The sections to paste into a configuration.

use std::{collections::BTreeSet, path::Path};

use crate::hsm::pkcs11::survey::{Section, TokenVerdict};

/// One `[[hsm]]` for each token that can be named; empty where there is none.
///
/// `variables` are those of the environment that the module was seen to work with.
pub(super) fn sections(module: &Path, verdicts: &[TokenVerdict], variables: &[(String, String)]) -> String {
    let mut names = BTreeSet::new();
    let sections = verdicts.iter().filter_map(|verdict| verdict.section.as_ref().ok()).map(|section| {
        let mut name = section.name.clone();
        let mut number = 2;
        while !names.insert(name.clone()) {
            name = format!("{}-{number}", section.name);
            number += 1;
        }
        one(module, &name, section, variables)
    });
    sections.collect::<Vec<_>>().join("\n")
}

fn one(module: &Path, name: &str, section: &Section, variables: &[(String, String)]) -> String {
    let mut text = format!("[[hsm]]\nname = {}\nmodule = {}\n", quoted(name), quoted(&module.display().to_string()));
    if !variables.is_empty() {
        let pairs: Vec<_> = variables.iter().map(|(name, value)| format!("{name} = {}", quoted(value))).collect();
        text += &format!("module_env = {{ {} }}\n", pairs.join(", "));
    }
    text += &format!("{} = {}\n", section.key, quoted(&section.value));
    text += &format!("pin_source = {}\n", quoted(&format!("file:/etc/hallmark/{name}.pin")));
    // All its calls share one socket: hsm-config/p11-kit.md.
    let is_p11_kit = module.file_name().is_some_and(|name| name == "p11-kit-client.so");
    if let Some(workers) = if is_p11_kit { Some(1) } else { section.workers } {
        text += &format!("workers = {workers}\n");
    }
    text
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Those of the environment that tell `module` where its token is: the server needs them too.
pub(super) fn module_variables(module: &Path) -> Vec<(String, String)> {
    let file = module.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let its = KNOWN.iter().filter(|(part, _)| file.contains(part)).flat_map(|(_, names)| names.iter());
    let set = |name: &&str| Some(((*name).to_owned(), std::env::var(name).ok().filter(|value| !value.is_empty())?));
    its.filter_map(set).collect()
}

/// What a module's file is called, in part, and the variables that its maker's manual names. None holds a secret.
const KNOWN: &[(&str, &[&str])] = &[
    ("softhsm", &["SOFTHSM2_CONF"]),
    ("kryoptic", &["KRYOPTIC_CONF"]),
    ("p11-kit", &["P11_KIT_SERVER_ADDRESS"]),
    ("pkcs11-proxy", &["PKCS11_PROXY_SOCKET"]),
    ("tpm2", &["TPM2_PKCS11_STORE", "TPM2_PKCS11_TCTI"]),
    ("yubihsm", &["YUBIHSM_PKCS11_CONF"]),
    ("kmsp11", &["KMS_PKCS11_CONFIG"]),
    ("cs_pkcs11", &["CS_PKCS11_R2_CFG", "CS_PKCS11_R3_CFG"]),
    ("cryptoki", &["ChrystokiConfigurationPath"]),
    ("cknfast", &["NFAST_HOME", "CKNFAST_LOADSHARING"]),
    ("pkcs11-spy", &["PKCS11SPY"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &str, value: &str) -> TokenVerdict {
        let section = Section { name: name.to_owned(), key: "token_serial", value: value.to_owned(), workers: Some(2) };
        TokenVerdict { slot: 0, algs: Vec::new(), obstacles: Vec::new(), remarks: Vec::new(), section: Ok(section) }
    }

    #[test]
    fn whatever_a_token_is_called_the_sections_are_toml() {
        let verdicts = [verdict("main", "a\"b\\\n"), verdict("main", "2"), verdict("main", "3")];
        let text = sections("/lib/a b.so".as_ref(), &verdicts, &[("A".to_owned(), "x=\"y\"".to_owned())]);
        let read: toml::Table = text.parse().unwrap();
        let hsms = read["hsm"].as_array().unwrap();
        let names: Vec<_> = hsms.iter().map(|hsm| hsm["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["main", "main-2", "main-3"]);
        assert_eq!(hsms[0]["token_serial"].as_str(), Some("a\"b\\\n"));
        assert_eq!(hsms[0]["module_env"]["A"].as_str(), Some("x=\"y\""));
        assert_eq!(hsms[0]["workers"].as_integer(), Some(2));
    }
}
