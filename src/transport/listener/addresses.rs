//! What each address has open: none may have all there is, and who says nothing makes room for who does.
//!
//! A connection is half-open while the peer owes the next word: the hello of TLS, the end of a handshake, or its first
//! request where it has no identity. One more of those than there may be closes the oldest, which has had most time; who
//! means it is done in milliseconds. So whoever opens connections and says nothing keeps nobody out, from the same address
//! or another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Limits, PeerAddr};

/// Counts by address; what has nothing open is forgotten.
#[derive(Debug)]
pub(super) struct Addresses {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<IpAddr, Held>,
    /// In the order in which they began.
    half_open: BTreeMap<u64, (IpAddr, CancellationToken)>,
    next: u64,
}

#[derive(Debug)]
struct Held {
    connections: usize,
    half_open: BTreeSet<u64>,
    handshakes: Arc<Semaphore>,
}

/// A connection of an address, until it is dropped. Of a Unix socket nothing is counted: the system says who connects.
#[derive(Debug)]
pub(super) struct Entered {
    addresses: Arc<Addresses>,
    address: Option<IpAddr>,
}

/// While this is held a connection counts as half-open.
#[derive(Debug)]
pub(super) struct HalfOpen {
    addresses: Arc<Addresses>,
    number: Option<u64>,
    pushed_out: CancellationToken,
}

impl Addresses {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// Counts a connection, unless its address has as many as it may.
    pub(super) fn enter(self: &Arc<Self>, addr: PeerAddr) -> Option<Entered> {
        let address = match addr {
            PeerAddr::Tcp(addr) => Some(network(addr.ip())),
            PeerAddr::Unix { .. } => None,
        };
        if let Some(address) = address {
            let mut state = self.lock();
            let held = state.held.entry(address).or_insert_with(|| Held {
                connections: 0,
                half_open: BTreeSet::new(),
                handshakes: Arc::new(Semaphore::new(self.limits.handshakes_per_address.min(Semaphore::MAX_PERMITS))),
            });
            // There is no entry without a connection, so that one that is refused was there before.
            if held.connections >= self.limits.connections_per_address {
                return None;
            }
            held.connections += 1;
        }
        Some(Entered { addresses: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    /// From now on, until what this gives is dropped, the peer owes a word.
    pub(super) fn half_open(&self) -> HalfOpen {
        let (addresses, pushed_out) = (self.addresses.clone(), CancellationToken::new());
        let number = self.address.map(|address| {
            let Limits { half_open, half_open_per_address, .. } = self.addresses.limits;
            self.addresses.lock().begin(address, pushed_out.clone(), half_open, half_open_per_address)
        });
        HalfOpen { addresses, number, pushed_out }
    }

    /// The slots for handshakes of its address.
    pub(super) fn handshakes(&self) -> Option<Arc<Semaphore>> {
        let state = self.addresses.lock();
        self.address.and_then(|address| state.held.get(&address)).map(|held| held.handshakes.clone())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut state = self.addresses.lock();
        let Some(held) = state.held.get_mut(&address) else { return };
        held.connections -= 1;
        if held.connections == 0 {
            state.held.remove(&address);
        }
    }
}

impl State {
    fn begin(&mut self, address: IpAddr, pushed_out: CancellationToken, most: usize, most_of_one: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        self.half_open.insert(number, (address, pushed_out));
        let Some(held) = self.held.get_mut(&address) else { return number };
        held.half_open.insert(number);
        let own = (held.half_open.len() > most_of_one).then(|| held.half_open.first().copied()).flatten();
        let oldest = || self.half_open.first_key_value().map(|(number, _)| *number);
        if let Some(oldest) = own.or_else(|| if self.half_open.len() > most { oldest() } else { None }) {
            self.push_out(oldest);
        }
        number
    }

    fn push_out(&mut self, number: u64) {
        if let Some(pushed_out) = self.end(number) {
            pushed_out.cancel();
        }
    }

    fn end(&mut self, number: u64) -> Option<CancellationToken> {
        let (address, pushed_out) = self.half_open.remove(&number)?;
        if let Some(held) = self.held.get_mut(&address) {
            held.half_open.remove(&number);
        }
        Some(pushed_out)
    }
}

impl HalfOpen {
    /// Cancelled when newer ones took its place.
    pub(super) fn pushed_out(&self) -> &CancellationToken {
        &self.pushed_out
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.addresses.lock().end(number);
        }
    }
}

/// What one peer has: an IPv4 address, or the /64 that a host of IPv6 can choose from.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => (ip.to_bits() & !u128::from(u64::MAX)).to_be_bytes().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Arc<Addresses> {
        let limits = Limits { connections_per_address: 3, half_open: 4, half_open_per_address: 2, ..Limits::http() };
        Addresses::new(limits)
    }

    fn enter(addresses: &Arc<Addresses>, ip: &str) -> Option<Entered> {
        addresses.enter(PeerAddr::Tcp((ip.parse::<IpAddr>().unwrap(), 1).into()))
    }

    #[test]
    fn an_address_has_its_share_and_is_forgotten() {
        let addresses = addresses();
        let held: Vec<_> = (0..3).map(|_| enter(&addresses, "192.0.2.1").unwrap()).collect();
        assert!(enter(&addresses, "192.0.2.1").is_none());
        assert!(enter(&addresses, "::ffff:192.0.2.1").is_none(), "the same address");
        assert!(enter(&addresses, "192.0.2.2").is_some());
        drop(held);
        assert!(enter(&addresses, "192.0.2.1").is_some());
        assert!(addresses.lock().held.is_empty());
    }

    #[test]
    fn a_host_can_choose_its_ipv6_address() {
        let addresses = addresses();
        let _held: Vec<_> = (1..4).map(|n| enter(&addresses, &format!("2001:db8::{n}")).unwrap()).collect();
        assert!(enter(&addresses, "2001:db8::ffff").is_none());
        assert!(enter(&addresses, "2001:db8:0:1::1").is_some());
    }

    #[test]
    fn the_oldest_that_says_nothing_makes_room() {
        let addresses = addresses();
        let [one, two, three] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|ip| enter(&addresses, ip).unwrap());
        let first = one.half_open();
        let second = one.half_open();
        let third = one.half_open();
        let out = |half_open: &HalfOpen| half_open.pushed_out().is_cancelled();
        assert!(out(&first) && !out(&second) && !out(&third), "the oldest of that address");
        drop(second);
        let fourth = one.half_open();
        assert!(!out(&third) && !out(&fourth), "one that has spoken is not counted");

        let others = [two.half_open(), two.half_open()];
        assert!(!out(&third));
        let last = three.half_open();
        assert!(out(&third) && !out(&fourth) && !others.iter().any(out) && !out(&last), "the oldest of all");
        drop((first, third, fourth, others, last));
        assert!(addresses.lock().half_open.is_empty());
    }

    #[test]
    fn who_is_on_the_same_machine_is_not_counted() {
        let addresses = addresses();
        let entered: Vec<_> = (0..9).map(|_| addresses.enter(PeerAddr::Unix { uid: 1, pid: None }).unwrap()).collect();
        assert!(!entered.iter().any(|entered| entered.half_open().pushed_out().is_cancelled()));
    }
}
