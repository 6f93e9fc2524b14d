//! Reads an `[[hsm]]` of `kind = "yubikey"`, and computes whether its slots suffice.

use std::{collections::BTreeMap, fmt, time::Duration};

use hallmark_core::{
    client::Client,
    key::{Alg, ClientName, HsmName},
};
use toml::de::DeValue;

use super::{
    Device, Hsm, Yubikey,
    problem::{At, Place, Problems},
    reference::{self, What},
    section::Section,
    source::Source,
    value::{Mismatch, Setting},
};

/// The YubiKeys so far, and what no two of them may share.
#[derive(Debug, Default)]
pub(super) struct Yubikeys {
    /// By serial; `None` for one that takes whatever is plugged in.
    seen: Vec<(Option<u32>, Place)>,
    /// Where each says how many slots it has.
    places: BTreeMap<HsmName, Place>,
}

impl Yubikeys {
    pub(super) fn read(&mut self, s: &Section<'_>, name: Option<&HsmName>) -> Option<Yubikey> {
        for key in ["module", "module_env", "token_serial", "token_label", "custody_key", "workers"] {
            let hint = match key {
                "token_serial" => "write `serial = NUMBER`: the digits that are printed on the YubiKey",
                "workers" => "leave it out: a YubiKey does one thing at a time",
                _ => "leave it out, or write `kind = \"pkcs11\"`",
            };
            s.refuse(key, "is for a PKCS#11 token, and `kind` is \"yubikey\"", hint);
        }
        s.refuse(
            "management_key",
            "would put the management key into the configuration, which is copied, printed and kept in version control",
            "write it in hex to a file that only the service's user can read (mode 0600), and name that file: \
             `management_key_source = \"file:/etc/hallmark/yubikey.mgm\"`; then change the key, for this one has been seen",
        );
        let serial = s.get::<u32>("serial");
        self.check_serial(s, serial.as_ref());
        let example = "\"file:/etc/hallmark/yubikey.mgm\"";
        let management_key_source = reference::required(s, "management_key_source", example, What::ManagementKey);
        let slots = named_slots(s, "slots").unwrap_or_else(|| ALL_SLOTS.to_vec());
        let overwrite = slots_to_overwrite(s, &slots);
        self.places.extend(name.map(|name| (name.clone(), s.place_of("slots"))));
        Some(Yubikey {
            serial: serial.map(|serial| serial.value),
            management_key_source: management_key_source?,
            slots,
            overwrite,
        })
    }

    /// Whether what is configured fits: each line needs room for its active, its standby and its deactivated key, and
    /// Hallmark has one key of its own.
    pub(super) fn check_slots(
        &self,
        hsms: &[Hsm],
        clients: &[Client],
        rotate: &BTreeMap<(ClientName, Alg), Duration>,
        destroys: bool,
        problems: &Problems,
    ) {
        for hsm in hsms {
            let (Device::Yubikey(yubikey), Some(place)) = (&hsm.device, self.places.get(&hsm.name)) else { continue };
            let (has, needs) = (yubikey.slots.len(), slots_needed(&hsm.name, clients));
            if needs > has {
                let what = format!(
                    "the YubiKey `{}` has {has} slots, and the configuration needs {needs}: 3 for each of {} key lines \
                     (active, standby, deactivated), and 1 for Hallmark's own key",
                    hsm.name,
                    lines(&hsm.name, clients),
                );
                let most = has.saturating_sub(1) / KEYS_PER_LINE;
                let hint = format!("{most} key lines fit: take away clients or algorithms, or add another YubiKey");
                problems.error(place, what, hint);
            }
            let on_it = |name: &ClientName| clients.iter().any(|c| c.name == *name && c.hsms.contains(&hsm.name));
            if !destroys && rotate.keys().any(|(client, _)| on_it(client)) {
                let what = format!(
                    "keys on the YubiKey `{}` are rotated and never destroyed: a retired one keeps its slot",
                    hsm.name
                );
                let hint = "set `destroy_after` in [rotation], or call `hallmark keys destroy` after each rotation";
                problems.warn(place, what, hint);
            }
        }
    }

    fn check_serial(&mut self, s: &Section<'_>, serial: Option<&At<u32>>) {
        let (serial, place) = match serial {
            Some(At { value, place }) => (Some(*value), place.clone()),
            None => (None, s.place_of("kind")),
        };
        for (other, at) in &self.seen {
            if *other == serial && serial.is_some() {
                let what = "two HSMs are one YubiKey: a PIN would be tried twice, and its slots counted twice";
                s.error(&place, what, format!("use the one at {at} for both"));
            } else if other.is_none() || serial.is_none() {
                let what = "with several YubiKeys each needs its `serial`";
                s.error(&place, what, format!("add `serial = NUMBER` here and at {at}; the digits are printed on it"));
            }
        }
        self.seen.push((serial, place));
    }
}

/// How many slots of the YubiKey `hsm` the keys of `clients` may take at once, Hallmark's own key included.
pub fn slots_needed(hsm: &HsmName, clients: &[Client]) -> usize {
    lines(hsm, clients) * KEYS_PER_LINE + 1
}

fn lines(hsm: &HsmName, clients: &[Client]) -> usize {
    clients.iter().filter(|client| client.hsms.contains(hsm)).map(|client| client.keys.len()).sum()
}

fn named_slots(s: &Section<'_>, key: &'static str) -> Option<Vec<u8>> {
    let At { value, place } = s.get::<Vec<Slot>>(key)?;
    for (n, slot) in value.iter().enumerate() {
        if value[..n].contains(slot) {
            s.error(&place, format!("`{key}` in [[hsm]] names one twice: `{slot}`"), "leave one of them out");
        }
    }
    Some(value.into_iter().map(|slot| slot.0).collect())
}

fn slots_to_overwrite(s: &Section<'_>, slots: &[u8]) -> Vec<u8> {
    let overwrite = named_slots(s, "overwrite").unwrap_or_default();
    for slot in overwrite.iter().filter(|slot| !slots.contains(slot)) {
        let what = format!("`overwrite` in [[hsm]] names a slot that `slots` does not: `{slot:02x}`");
        s.error(&s.place_of("overwrite"), what, "name it in `slots` too, or leave it out here");
    }
    overwrite
}

/// A PIV slot that may hold a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot(u8);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

impl Setting for Slot {
    fn from_value(value: &DeValue<'_>, source: &Source) -> Result<Self, Mismatch> {
        let text = String::from_value(value, source)?;
        let number = u8::from_str_radix(&text, 16).ok().filter(|number| text.len() == 2 && ALL_SLOTS.contains(number));
        number.map(Self).ok_or_else(|| {
            let hint = "write `\"9a\"`, `\"9c\"`, `\"9d\"`, `\"9e\"` or one of `\"82\"` to `\"95\"`";
            Mismatch::new(format!("not a slot for keys: `{text}`"), hint)
        })
    }
}

/// In the order in which keys go into them: first those that no other program uses by itself.
pub(super) const ALL_SLOTS: [u8; 24] = [
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94,
    0x95, 0x9a, 0x9d, 0x9c, 0x9e,
];

/// Active, standby, deactivated.
const KEYS_PER_LINE: usize = 3;
