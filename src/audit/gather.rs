//! How long a sync waits for company.
//!
//! A sync costs a thread tens of microseconds of processor time, however many it serves, and on a fast disk it is over
//! before the next signature is there. So the writer waits a moment for a few more, as far as experience says that they
//! come. For a lone caller, who would only lose time, it soon stops waiting, and tries again now and then.

/// Decides for each sync how many it should serve. Pure: the queue waits, and says how it went.
#[derive(Debug)]
pub(super) struct Gather {
    target: usize,
    /// Syncs to come without waiting.
    skip: u32,
    met: u32,
}

impl Gather {
    pub(super) fn new() -> Self {
        Self { target: PAIR, skip: 0, met: 0 }
    }

    /// For how many the next sync, which `waiters` wait for already, should wait; `None`: it should start.
    pub(super) fn wanted(&mut self, waiters: usize) -> Option<usize> {
        if waiters >= self.target {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(self.target)
    }

    /// `waiters` were there when the wait was over.
    pub(super) fn ended(&mut self, waiters: usize) {
        if waiters >= self.target {
            self.met += 1;
            if self.met == GROW_AFTER {
                (self.target, self.met) = ((self.target + 1).min(MOST), 0);
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
/// Not all who could come: those who wait here give the HSM nothing to do, and a quarter of the cost is little enough.
const MOST: usize = 4;
/// Targets met before a larger one is tried.
const GROW_AFTER: u32 = 8;
/// What a lone caller loses is one wait in so many.
const LONE_SYNCS: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// Syncs of `callers` that come back as soon as they are served, one at a time: how many waits ended early and
    /// late, and the mean size of a sync.
    fn simulate(callers: usize, syncs: usize) -> (usize, usize, f64) {
        let (mut gather, mut early, mut late, mut served) = (Gather::new(), 0, 0, 0);
        for _ in 0..syncs {
            let size = match gather.wanted(1) {
                None => 1,
                Some(wanted) => {
                    let size = wanted.min(callers);
                    gather.ended(size);
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
    fn a_lone_caller_hardly_ever_waits() {
        let (early, late, _) = simulate(1, 10_000);
        assert!(early == 0 && late <= 100, "{late}");
    }

    #[test]
    fn few_share_syncs_and_many_share_them_without_delay() {
        let (_, late, size) = simulate(3, 10_000);
        assert!(size > 2.9 && late < 1_200, "most waits must end when all are there: {size} {late}");
        let (_, late, size) = simulate(8, 10_000);
        assert!(size > 3.9 && late == 0, "{size} {late}");
    }

    #[test]
    fn a_crowd_is_not_kept_waiting() {
        assert_eq!(Gather::new().wanted(MOST), None);
    }
}
