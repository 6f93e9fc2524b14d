//! All key objects of a token, and which of them make a pair.

use std::collections::HashMap;

use cryptoki::object::ObjectHandle;
use hallmark_core::{ports::HsmObject, public_key::PublicKey};

use super::{
    binding::{Bindings, Pair},
    objects::Named,
};

/// The objects of a token, by `CKA_ID`.
#[derive(Default)]
pub(super) struct Listing {
    by_id: HashMap<Vec<u8>, Listed>,
}

#[derive(Default)]
struct Listed {
    private: Vec<Half>,
    public: Vec<(Half, Option<PublicKey>)>,
}

struct Half {
    handle: ObjectHandle,
    label: String,
}

impl Listing {
    /// `key` is what the object holds, where that is of use.
    pub(super) fn add_public(&mut self, object: Named, key: Option<PublicKey>) {
        let (id, half) = Half::of(object);
        self.by_id.entry(id).or_default().public.push((half, key));
    }

    pub(super) fn add_private(&mut self, object: Named) {
        let (id, half) = Half::of(object);
        self.by_id.entry(id).or_default().private.push(half);
    }

    /// One entry for each pair, which is bound if nothing else has its `CKA_ID`, and one for each object without a partner.
    pub(super) fn finish(self, bindings: &Bindings) -> Vec<HsmObject> {
        let mut listed = Vec::new();
        for (cka_id, objects) in self.by_id {
            if let ([private], [(_, Some(key))]) = (objects.private.as_slice(), objects.public.as_slice()) {
                let pair = Pair { private: private.handle, label: private.label.clone(), key: key.clone() };
                bindings.listed(&cka_id, pair);
            }
            listed.extend(objects.entries().into_iter().map(|(label, public, has_private)| HsmObject {
                cka_id: cka_id.clone(),
                label,
                public,
                has_private,
            }));
        }
        listed.sort_by(|a, b| (&a.label, &a.cka_id).cmp(&(&b.label, &b.cka_id)));
        listed
    }
}

impl Listed {
    /// Label, public key and whether there is a private object, of each pair and of each object that has no partner.
    ///
    /// Under one `CKA_ID`, one object of each kind are a pair, whatever their labels. Where there are more, only those make
    /// a pair that alone of their kind have one label: an object that somebody put beside a pair must not become half of it.
    fn entries(self) -> Vec<(String, Option<PublicKey>, bool)> {
        let Self { mut private, mut public } = self;
        if let ([half], [_]) = (private.as_slice(), public.as_slice()) {
            let label = half.label.clone();
            return public.into_iter().map(|(_, key)| (label.clone(), key, true)).collect();
        }
        let mut entries = Vec::new();
        let labels: Vec<_> = private.iter().map(|half| half.label.clone()).collect();
        for label in labels {
            let alone = private.iter().filter(|half| half.label == label).count() == 1
                && public.iter().filter(|(half, _)| half.label == label).count() == 1;
            if let (true, Some(at)) = (alone, public.iter().position(|(half, _)| half.label == label)) {
                private.retain(|half| half.label != label);
                entries.push((label, public.remove(at).1, true));
            }
        }
        entries.extend(private.into_iter().map(|half| (half.label, None, true)));
        entries.extend(public.into_iter().map(|(half, key)| (half.label, key, false)));
        entries
    }
}

impl Half {
    fn of(object: Named) -> (Vec<u8>, Self) {
        (object.cka_id, Self { handle: object.handle, label: object.label })
    }
}
