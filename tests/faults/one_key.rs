//! One key that fails while the HSM is well: the others go on.

use std::time::{Duration, Instant};

use super::{CLASSES, RECOVERY_LIMIT, rig::Rig};
use crate::support::{PATIENCE, eventually};

/// `CKA_LABEL` of the keys of one client.
const POISONED: &str = "hallmark:second:";

/// What one key's faults may cost the others: once they come back from a reconnect, at the start. How often they are refused
/// until then is a matter of how fast they ask; after that it is next to never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_key_takes_no_other_down() {
    let rig = Rig::start(|_| {}).await;
    let acts = CLASSES.iter().map(|(_, code)| format!("return {code}")).chain(["corrupt".to_owned()]);
    for act in acts {
        for function in
            ["C_SignInit", "C_Sign"].into_iter().filter(|function| act != "corrupt" || *function == "C_Sign")
        {
            let plan = format!("{function} {act} key={POISONED}");
            rig.module.set(&plan);
            others_sign(&rig, &plan).await;
            rig.load.refused(&plan);
            others_sign(&rig, &plan).await;
            let refused = rig.load.refused(&plan);
            let of_others: usize =
                refused.iter().filter(|((client, _), _)| *client != "second").map(|(_, times)| times).sum();
            assert!(of_others * 20 <= SIGNATURES, "{plan}: others were refused {of_others} times: {refused:?}");
            let of_its_own: usize = refused.values().sum();
            assert!(of_its_own > of_others, "{plan}: it did not fail: {refused:?}");
            eprintln!("{plan}: {refused:?}");

            // Half a minute for each would be long: an HSM that is connected anew has all keys tried again at once.
            let waits = act == "corrupt";
            rig.module.set(if waits { "" } else { "C_SignInit return CKR_TOKEN_NOT_PRESENT times=1" });
            let healed = Instant::now();
            let signs = async || rig.load.signed_since("second", healed).then_some(());
            eventually("the key is tried again", QUARANTINE + PATIENCE, signs).await;
            let limit = if waits { QUARANTINE } else { Duration::ZERO } + RECOVERY_LIMIT;
            assert!(healed.elapsed() <= limit, "{plan}: {:?}", healed.elapsed());
            rig.signs(healed).await;
        }
    }
    rig.stop().await;
}

async fn others_sign(rig: &Rig, plan: &str) {
    let before = rig.load.signatures_but_of("second");
    let done = async || (rig.load.signatures_but_of("second") >= before + SIGNATURES).then_some(());
    eventually(plan, PATIENCE, done).await;
}

/// So many signatures of the others are waited for.
const SIGNATURES: usize = 200;
/// For so long a key is set aside.
const QUARANTINE: Duration = Duration::from_secs(30);
