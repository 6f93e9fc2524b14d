//! Signatures that operators ask for: of all that is signed with a client's key and is no assertion.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{assertion::SigningInput, audit::Signing, error::Error};

use super::{
    Keys,
    change::Author,
    choice::{Chosen, check_alive},
    no_such_key,
};
use crate::{
    pool::Signed,
    service::{intent::Intent, sign::audit_unavailable},
};

impl Keys {
    /// Signs what is no assertion with a client's key; audited as what it is, and with who wanted it and why. It is given
    /// out only once that is on the disk.
    pub(super) async fn sign_for_operator(
        &self,
        chosen: &Chosen,
        input: SigningInput,
        author: &Author<'_>,
        audience: &str,
    ) -> Result<Signed, Error> {
        let (key, deadline) = (Arc::new(chosen.pool_key()?), Instant::now() + PATIENCE);
        let pool = self.pool(&chosen.record.hsm)?;
        self.context.keyring.leased()?;
        pool.check(&key, deadline)?;
        let (kind, subject) = (input.kind(), chosen.record.id.to_string());
        let signing = Signing {
            request: author.change,
            who: author.who,
            client: chosen.client.name.as_str(),
            kid: key.kid.as_str(),
            alg: key.alg.as_str(),
            kind,
            audience,
        };
        self.audited(author, &format!("sign-{kind}"), &subject, async {
            let intent = Intent::record(&self.context, signing)?;
            let signed = pool.sign(key.clone(), input, deadline).await;
            let signed = signed.and_then(|signed| self.still_alive(chosen).map(|()| signed));
            let outcome = intent.outcome(signed.as_ref().map(|signed| Some(&signed.to_be_signed.stamp)));
            self.context.audit.append_synced(outcome).await.map_err(audit_unavailable)?;
            signed
        })
        .await
    }

    /// The key may have been revoked while the HSM worked.
    fn still_alive(&self, chosen: &Chosen) -> Result<(), Error> {
        let keys = self.context.keyring.leased()?;
        keys.find(chosen.record.id).map_or_else(|| Err(no_such_key(chosen.public.kid.as_str())), check_alive)
    }
}

/// An HSM that takes longer for a signature is of no use to an operator either.
const PATIENCE: Duration = Duration::from_secs(30);
