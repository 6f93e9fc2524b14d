//! Public custody keys as an auditor keeps them, for whatever was signed with them: checkpoints and evidence.

use std::path::Path;

use hallmark_core::{evidence::custody_keys, public_key::PublicKey};

use super::{Failure, input};

/// Those of a file: a JWK, a set, or PEM, as `keys custody` and `audit keys` print them.
pub(super) fn read(path: &Path) -> Result<Vec<PublicKey>, Failure> {
    let hint = "`hallmark keys custody --json > custody.json` asks the server for them, `hallmark audit keys --config FILE` \
                its store; keep them where nobody else can write";
    custody_keys::read(&input::read(path, custody_keys::LONGEST)?)
        .map_err(|why| Failure::new(format!("can't use --custody-key: `{}`", path.display())).because(why).hint(hint))
}
