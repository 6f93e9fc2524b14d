//! Key pairs on the token, made as the server makes them.
//!
//! In a child of the benchmark, because SoftHSM takes its configuration from the environment.

use std::{error::Error, path::PathBuf, sync::Arc};

use hallmark::hsm::{
    pin::PinSource,
    pkcs11::{Modules, Pkcs11Token, TokenSelector},
};
use hallmark_core::{
    key::{Alg, KeySpec, PublicPart},
    ports::{Hsm, NewKey},
    public_key::PublicKey,
};
use hallmark_testkit::pin_ledger::MemoryPinLedger;
use serde::{Deserialize, Serialize};

use crate::{
    sandbox::{HSM, Sandbox},
    this_program,
};

/// The arguments of the child.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PairsArgs {
    #[arg(long, hide = true, requires = "module", requires = "pairs_pin")]
    make_pairs: Option<usize>,
    #[arg(long, hide = true)]
    module: Option<PathBuf>,
    #[arg(long, hide = true)]
    pairs_pin: Option<PathBuf>,
}

/// A pair on the token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) cka_id: Vec<u8>,
    pub(crate) label: String,
    spki: Vec<u8>,
}

impl Pair {
    /// Has so many P-256 pairs made.
    pub(crate) fn make(sandbox: &Sandbox, count: usize) -> Result<Vec<Self>, Box<dyn Error>> {
        let mut child = this_program()?;
        child.arg("--make-pairs").arg(count.to_string()).arg("--module").arg(sandbox.module());
        child.arg("--pairs-pin").arg(sandbox.pin()).env("SOFTHSM2_CONF", sandbox.softhsm_conf());
        let made = child.output()?;
        if made.status.success() {
            Ok(serde_json::from_slice(&made.stdout)?)
        } else {
            Err(format!("no keys were made: {}", String::from_utf8_lossy(&made.stderr)).into())
        }
    }

    pub(crate) fn public(&self) -> Result<PublicPart, Box<dyn Error>> {
        let key = PublicKey::from_spki(&self.spki)?;
        Ok(PublicPart { kid: key.thumbprint(), key })
    }
}

impl PairsArgs {
    /// Whether this process is the child.
    pub(crate) fn is_child(&self) -> bool {
        self.make_pairs.is_some()
    }

    /// The child's life: makes the pairs, and prints them.
    pub(crate) fn serve(&self) -> Result<(), Box<dyn Error>> {
        let (Some(count), Some(module), Some(pin)) = (self.make_pairs, &self.module, &self.pairs_pin) else {
            return Err("--make-pairs needs --module and --pairs-pin".into());
        };
        let pin = PinSource::parse(&format!("file:{}", pin.display()), None)?;
        let (module, selector) = (Modules::default().load(module)?, TokenSelector::Label(HSM.to_owned()));
        let token = Pkcs11Token::new(module, selector, pin, Arc::new(MemoryPinLedger::default()));
        token.connect()?;
        let mut session = token.open()?;
        let pairs = (0..count).map(|n| {
            let (cka_id, label) = ((n as u128 + 1).to_be_bytes().to_vec(), format!("hallmark-bench-{n}"));
            let spec = KeySpec { alg: Alg::ES256, rsa_bits: KeySpec::DEFAULT_RSA_BITS };
            let key = session.generate(&NewKey { cka_id: &cka_id, label: &label, spec })?;
            Ok(Pair { spki: key.spki().to_vec(), cka_id, label })
        });
        let pairs = pairs.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        println!("{}", serde_json::to_string(&pairs)?);
        Ok(())
    }
}
