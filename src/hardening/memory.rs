//! Buffers for secrets: wiped when they are dropped, and not written to swap before.

use zeroize::Zeroizing;

/// Keeps the pages of a buffer in memory (`mlock`) until it is dropped.
#[derive(Debug)]
pub struct Locked {
    address: usize,
    length: usize,
}

impl Locked {
    /// `None` where the system does not allow it: over `RLIMIT_MEMLOCK`, or refused by a filter.
    #[allow(unsafe_code)]
    pub fn new(buffer: &[u8]) -> Option<Self> {
        let (address, length) = (buffer.as_ptr() as usize, buffer.len());
        // SAFETY: the range is mapped, for `buffer` is borrowed; locking changes no byte of it.
        unsafe { rustix::mm::mlock(address as *mut _, length) }.ok()?;
        Some(Self { address, length })
    }
}

impl Drop for Locked {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: looks at no byte; where the range was unmapped meanwhile the call fails, and nothing is to be done.
        let _ = unsafe { rustix::mm::munlock(self.address as *mut _, self.length) };
    }
}

/// An empty buffer for a secret of up to `length` bytes (at most 4 KiB), that does not grow, and its lock, if the system
/// allows one. The lock must be dropped last.
pub fn private_buffer(length: usize) -> (Option<Locked>, Zeroizing<Vec<u8>>) {
    // Locks do not nest. So large, no other buffer of this kind begins on the pages that this one's secret is on, and
    // would unlock them.
    let mut buffer = Zeroizing::new(Vec::with_capacity(2 * PAGE + length));
    buffer.resize(length, 0);
    let lock = Locked::new(&buffer);
    buffer.clear();
    (lock, buffer)
}

/// The smallest that Linux has is the only one whose neighbours matter: larger pages are locked whole as well.
const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use hallmark_testkit::child::in_child;

    use super::*;

    fn locked_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// In a process of its own: other tests lock memory too.
    #[test]
    fn a_secret_is_locked_for_as_long_as_it_lives() {
        let test = "hardening::memory::tests::a_secret_is_locked_for_as_long_as_it_lives";
        in_child(
            test,
            || ((), Vec::new()),
            || {
                let before = locked_kib();
                let one = private_buffer(256);
                let other = private_buffer(256);
                assert!(one.0.is_some(), "Linux lets everybody lock 64 KiB, and more by default");
                let both = locked_kib();
                drop(other);
                let left = locked_kib();
                assert!(before < left && left < both, "the first is still locked: {before}, {both}, {left} KiB");
                drop(one);
                assert_eq!(locked_kib(), before);
            },
        );
    }
}
