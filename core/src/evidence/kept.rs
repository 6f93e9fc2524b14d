//! Whether what is on record of a key is as good as its client's policy wants it: asked at each reading of the store and
//! of the configuration, without the HSM.

use super::{attestation, roots::Roots};
use crate::{
    client::Custody,
    key::{KeyRecord, Origin},
};

/// Refuses a key whose record falls short of `floor`. An attestation counts as of when the record began: it says where a
/// key was born, and that does not change when a certificate runs out.
///
/// # Errors
/// Why it falls short.
pub fn check(record: &KeyRecord, floor: Custody, roots: &Roots) -> Result<(), String> {
    if floor == Custody::Imported {
        return Ok(());
    }
    if record.origin == Origin::Imported {
        return Err("it existed outside an HSM once".to_owned());
    }
    let Some(public) = record.public.as_ref().filter(|_| floor == Custody::Attested) else { return Ok(()) };
    let attested = attestation::check(&record.attestation, &public.key, roots, record.times.created);
    attested.map(drop).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::fixture::{
        World,
        maker::{Maker, Says},
    };

    #[test]
    fn a_record_is_held_to_the_floor() {
        let (world, maker) = (World::new(), Maker::unknown());
        let roots = Roots::none().with_pem(maker.root_pem().as_bytes()).unwrap();
        let attestation = maker.attest(world.key.public.spki(), &Says::default());
        let plain = world.record();
        let attested = KeyRecord { attestation, ..plain.clone() };
        let imported = KeyRecord { origin: Origin::Imported, ..attested.clone() };
        let best = |record: &KeyRecord, roots: &Roots| {
            let floors = [Custody::Attested, Custody::Local, Custody::Imported];
            floors.into_iter().find(|floor| check(record, *floor, roots).is_ok())
        };
        assert_eq!(best(&plain, &roots), Some(Custody::Local));
        assert_eq!(best(&attested, &roots), Some(Custody::Attested));
        assert_eq!(best(&attested, &Roots::yubico()), Some(Custody::Local), "another maker's");
        assert_eq!(best(&imported, &roots), Some(Custody::Imported), "whatever anyone attests");
    }
}
