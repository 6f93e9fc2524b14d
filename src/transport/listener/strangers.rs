//! Connections that have asked for something and not shown who calls: few, and none keeps another out.
//!
//! A connection that says nothing is half-open and has no place here. With its first request it takes one, until a token
//! has named its caller. Where all are taken, the address that has most gives up its oldest: whoever fills them from one
//! address takes them from itself, and whoever has many addresses from those who have had most time. An honest caller
//! shows its token with the first request, and needs its place for one look at it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::{PeerAddr, addresses::network};

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Strangers {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they came.
    placed: Vec<Placed>,
    next: u64,
}

#[derive(Debug)]
struct Placed {
    number: u64,
    /// `None`: the peer of a Unix socket.
    address: Option<IpAddr>,
    pushed_out: CancellationToken,
}

/// A connection of nobody in particular. Its place, if it has one, is free when this is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Arc<Strangers>,
    address: Option<IpAddr>,
    number: Mutex<Option<u64>>,
    pushed_out: CancellationToken,
}

impl Strangers {
    /// `most` places.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    /// A connection from `addr`, without a place yet.
    pub(super) fn connected(self: &Arc<Self>, addr: PeerAddr) -> Stranger {
        let address = match addr {
            PeerAddr::Tcp(addr) => Some(network(addr.ip())),
            PeerAddr::Unix { .. } => None,
        };
        let (strangers, number) = (Arc::clone(self), Mutex::default());
        Stranger { strangers, address, number, pushed_out: CancellationToken::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Takes a place: its first request is there.
    pub(super) fn asks(&self) {
        let number = self.strangers.lock().take(self.address, &self.pushed_out, self.strangers.most);
        *self.number.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    /// Gives the place back: it is somebody, or gone.
    pub(super) fn leaves(&self) {
        if let Some(number) = self.number.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.strangers.lock().placed.retain(|placed| placed.number != number);
        }
    }

    /// Cancelled when another took its place.
    pub(super) fn pushed_out(&self) -> &CancellationToken {
        &self.pushed_out
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.leaves();
    }
}

impl State {
    fn take(&mut self, address: Option<IpAddr>, pushed_out: &CancellationToken, most: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        self.placed.push(Placed { number, address, pushed_out: pushed_out.clone() });
        if self.placed.len() > most {
            self.placed.remove(self.next_to_go()).pushed_out.cancel();
        }
        number
    }

    /// Where the oldest is of the address that has most; of several such addresses, the oldest of all.
    fn next_to_go(&self) -> usize {
        let mut counts: HashMap<_, usize> = HashMap::new();
        for placed in &self.placed {
            *counts.entry(placed.address).or_default() += 1;
        }
        let largest = counts.values().copied().max();
        let of_largest = |placed: &Placed| counts.get(&placed.address).copied() == largest;
        self.placed.iter().position(of_largest).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(strangers: &Arc<Strangers>, ip: &str) -> Stranger {
        let stranger = strangers.connected(PeerAddr::Tcp((ip.parse::<IpAddr>().unwrap(), 1).into()));
        stranger.asks();
        stranger
    }

    fn out(stranger: &Stranger) -> bool {
        stranger.pushed_out().is_cancelled()
    }

    #[test]
    fn whoever_fills_all_places_takes_them_from_itself() {
        let strangers = Strangers::new(4);
        let honest = asking(&strangers, "192.0.2.1");
        let flood: Vec<_> = (0..9).map(|_| asking(&strangers, "192.0.2.2")).collect();
        assert!(!out(&honest), "older than all of the flood");
        assert_eq!(
            flood.iter().map(out).collect::<Vec<_>>(),
            [true, true, true, true, true, true, false, false, false]
        );
        let another = asking(&strangers, "192.0.2.3");
        assert!(out(&flood[6]) && !out(&flood[7]) && !out(&honest) && !out(&another));
    }

    #[test]
    fn of_many_addresses_the_oldest_goes() {
        let strangers = Strangers::new(3);
        let first: Vec<_> = (1..4).map(|n| asking(&strangers, &format!("192.0.2.{n}"))).collect();
        let last = asking(&strangers, "192.0.2.9");
        assert!(out(&first[0]) && !out(&first[1]) && !out(&first[2]) && !out(&last));
        let host = ["2001:db8::1", "2001:db8::2"].map(|ip| asking(&strangers, ip));
        let next = asking(&strangers, "192.0.2.8");
        assert!(out(&host[0]) && !out(&last) && !out(&next), "a /64 is one address");
    }

    #[test]
    fn a_place_is_given_back_once() {
        let strangers = Strangers::new(1);
        let silent = strangers.connected(PeerAddr::Tcp(([192, 0, 2, 1], 1).into()));
        let somebody = asking(&strangers, "192.0.2.1");
        somebody.leaves();
        let nobody = asking(&strangers, "192.0.2.1");
        drop(somebody);
        drop(silent);
        assert_eq!(strangers.lock().placed.len(), 1, "of the one who has it");
        drop(nobody);
        assert!(strangers.lock().placed.is_empty());
    }
}
