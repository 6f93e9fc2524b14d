//! How long a sync waits for company.
//!
//! A sync costs the machine about 100 µs of processor time, however many it serves, and on a fast disk it is over before
//! the next signature is there. So the writer waits a moment for more, as long as others queue for the HSM: then it has
//! enough to do, and nobody's turn comes later. It waits for half of those that are under way, for whoever waits here gives
//! the HSM nothing to do; and for no more than experience says that come in time.

/// Decides for each sync how many it should serve. Pure: the queue waits, and says how it went.
#[derive(Debug)]
pub(super) struct Gather {
    /// How many signatures are made at once, by all HSMs together.
    sessions: usize,
    /// What was reached lately, and a little more.
    target: usize,
    /// Syncs to come without waiting.
    skip: u32,
    met: u32,
}

impl Gather {
    pub(super) fn new(sessions: usize) -> Self {
        Self { sessions, target: PAIR, skip: 0, met: 0 }
    }

    /// For how many the next sync should wait; `None`: it should start. `waiters` wait for it already, and `under_way`
    /// may come to wait.
    pub(super) fn wanted(&mut self, waiters: usize, under_way: usize) -> Option<usize> {
        let wanted = self.target.min((waiters + under_way).div_ceil(2));
        if waiters >= wanted || under_way <= self.sessions {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(wanted)
    }

    /// `waiters` were there when the wait for `wanted` was over.
    pub(super) fn ended(&mut self, waiters: usize, wanted: usize) {
        if waiters >= wanted {
            // Where fewer than the target were wanted, nothing was learnt of it.
            self.met += u32::from(wanted == self.target);
            if self.met == GROW_AFTER {
                (self.target, self.met) = ((self.target + 1).max(self.target * 5 / 4), 0);
            }
            return;
        }
        self.met = 0;
        self.target = waiters.max(PAIR);
        if waiters < PAIR {
            self.skip = LONE_SYNCS;
        }
    }
}

const PAIR: usize = 2;
/// Targets met before a larger one is tried.
const GROW_AFTER: u32 = 8;
/// Where nobody came, the next tries are spared as many callers: fewer than one in a hundred waits in vain.
const LONE_SYNCS: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    const SESSIONS: usize = 2;

    /// Syncs of `callers`, of whom at most `in_time` come while the writer waits: how many waits ended early and late,
    /// and the mean size of a sync.
    fn simulate(callers: usize, in_time: usize, syncs: usize) -> (usize, usize, f64) {
        let (mut gather, mut early, mut late, mut served) = (Gather::new(SESSIONS), 0, 0, 0);
        for _ in 0..syncs {
            let size = match gather.wanted(1, callers - 1) {
                None => 1,
                Some(wanted) => {
                    let size = wanted.min(in_time);
                    gather.ended(size, wanted);
                    if size == wanted {
                        early += 1
                    } else {
                        late += 1
                    }
                    size
                }
            };
            served += size;
        }
        (early, late, served as f64 / syncs as f64)
    }

    #[test]
    fn a_lone_caller_never_waits() {
        assert_eq!(simulate(1, 1, 10_000), (0, 0, 1.0));
    }

    #[test]
    fn whoever_waits_beside_a_slow_hsm_hardly_ever_waits_for_it() {
        let (_, late, _) = simulate(8, 1, 10_000);
        assert!(late <= 50, "{late}");
    }

    #[test]
    fn nobody_waits_where_nobody_queues_for_the_hsm() {
        let mut gather = Gather::new(8);
        assert_eq!(gather.wanted(1, 8), None, "all of them are being signed");
        assert_eq!(gather.wanted(1, 9), Some(2));
    }

    #[test]
    fn half_of_those_under_way_share_a_sync() {
        for callers in [4, 8, 64] {
            let (_, late, size) = simulate(callers, callers, 10_000);
            assert!(size > callers as f64 * 0.45 && late == 0, "{callers}: {size} {late}");
        }
    }

    #[test]
    fn as_many_share_a_sync_as_come_in_time() {
        let (early, late, size) = simulate(128, 10, 10_000);
        assert!(size > 9.5 && late * 7 < early, "{size} {early} {late}");
    }

    #[test]
    fn a_crowd_is_not_kept_waiting() {
        assert_eq!(Gather::new(SESSIONS).wanted(PAIR, 62), None);
    }
}
