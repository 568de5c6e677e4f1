//! The client connections that are open: how many there may be, how many of one address, and which of them goes when there is
//! no room for another. One that waits for a request goes first, the longest before others; then one whose client takes nothing
//! of its answer. Requests and sockets stay.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use slab::Slab;

use crate::live::state::State;
use crate::net::client_network::client_network;
use crate::runtime::shares::{Share, Shares};

/// All that are open.
#[derive(Debug)]
pub struct Connections {
    places: Shares<IpAddr>,
    open: Mutex<Open>,
    /// Counts those that were refused, and those that went for others.
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct Open {
    connections: Slab<Arc<Presence>>,
    /// Where the next search begins.
    hand: usize,
}

/// One that is open, until it is dropped or has become a socket.
#[derive(Debug)]
pub struct Admitted {
    connections: Arc<Connections>,
    presence: Arc<Presence>,
    index: usize,
}

/// What others know of an open connection.
#[derive(Debug)]
pub struct Presence {
    opened: Instant,
    /// What it serves, once that is known.
    serves: Mutex<Option<Arc<dyn Serves>>>,
    /// None once it was given up for another.
    share: Mutex<Option<Share<IpAddr>>>,
    told: AtomicBool,
    waker: AtomicWaker,
}

/// Knows what a connection waits for.
pub trait Serves: fmt::Debug + Send + Sync {
    /// None: it is busy.
    fn waits(&self) -> Option<Waits>;
}

/// A handshake that waits for its permit.
#[derive(Debug)]
pub struct InLine;

impl Serves for InLine {
    fn waits(&self) -> Option<Waits> {
        None
    }
}

/// What a connection waits for that could go. Who comes first goes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// For its client to take more of an answer.
    Stalled(Duration),
    /// For a request.
    Idle(Duration),
}

/// A search looks at so many connections and no more: at a full house each newcomer costs a search.
const LOOKS: usize = 1024;
/// A client that takes nothing for a shorter time may only be slow.
const STALLED: Duration = Duration::from_secs(10);

impl Connections {
    /// None yet.
    pub fn new(state: Arc<State>) -> Self {
        Self {
            places: state.client_connections.clone(),
            open: Mutex::default(),
            state,
        }
    }

    /// A place for a new connection. `address`: whose share it is taken from; None: of a proxy, who speaks for many. None:
    /// there is none, and nobody who waits could make room.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Admitted> {
        let share = self.share(address.map(client_network))?;
        let presence = Arc::new(Presence {
            opened: now(),
            serves: Mutex::default(),
            share: Mutex::new(Some(share)),
            told: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let index = self.open.lock().connections.insert(presence.clone());
        Some(Admitted {
            connections: self.clone(),
            presence,
            index,
        })
    }

    /// Tells the connections that have waited longest to go, so many of them and those alone that their clients stall.
    pub fn shed_stalled(&self, count: usize) -> usize {
        let open = self.open.lock();
        let mut stalled: Vec<_> = open
            .connections
            .iter()
            .filter_map(|(_, presence)| match presence.waits()? {
                Waits::Stalled(time) => Some((time, presence)),
                Waits::Idle(_) => None,
            })
            .collect();
        stalled.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        let gone = stalled
            .iter()
            .take(count)
            .filter(|(_, presence)| presence.tell())
            .count();
        self.state.displaced.fetch_add(gone as u64, Relaxed);
        gone
    }

    fn share(&self, network: Option<IpAddr>) -> Option<Share<IpAddr>> {
        let free = match network {
            Some(network) => self.places.take(network, 1),
            None => self.places.take_for_many(1),
        };
        let share = free.or_else(|| {
            let mut share = self.displace(network)?;
            share.hand_over(network);
            self.state.displaced.fetch_add(1, Relaxed);
            Some(share)
        });
        if share.is_none() {
            self.state.refused.fetch_add(1, Relaxed);
        }
        share
    }

    /// The place of a connection that waits: one of the newcomer's own address first, then one of an address that has no less.
    fn displace(&self, network: Option<IpAddr>) -> Option<Share<IpAddr>> {
        let mine = network.map_or(0, |network| self.places.held(&network));
        let mut open = self.open.lock();
        let size = open.connections.capacity();
        let looked_at = (0..size.min(LOOKS)).map(|step| (open.hand + step) % size);
        let first = looked_at
            .filter_map(|index| {
                let presence = open.connections.get(index)?;
                let waits = presence.waits()?;
                let holder = presence.share.lock().as_ref()?.holder().copied();
                let own = holder == network;
                let may = own || holder.is_none_or(|holder| self.places.held(&holder) >= mine);
                may.then_some(((own, waits), presence))
            })
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, presence)| presence.clone());
        open.hand = (open.hand + LOOKS) % size.max(1);
        drop(open);
        let presence = first?;
        let share = presence.share.lock().take();
        presence.tell();
        share
    }
}

impl Presence {
    /// None: it is busy, or was told already.
    fn waits(&self) -> Option<Waits> {
        if self.told.load(Relaxed) {
            return None;
        }
        let waits = match &*self.serves.lock() {
            None => Some(Waits::Idle(now().saturating_duration_since(self.opened))),
            Some(serves) => serves.waits(),
        };
        waits.filter(|waits| !matches!(waits, Waits::Stalled(time) if *time < STALLED))
    }

    fn tell(&self) -> bool {
        let first = !self.told.swap(true, Relaxed);
        self.waker.wake();
        first
    }
}

impl Admitted {
    /// Whom the connection is from, where that was not known from the beginning. False: that address has its share.
    pub fn identify(&self, address: IpAddr) -> bool {
        // Given back first: it is to be taken once, and not from this very connection.
        drop(self.presence.share.lock().take());
        let share = self.connections.share(Some(client_network(address)));
        let known = share.is_some();
        *self.presence.share.lock() = share;
        known
    }

    /// What it serves from now on.
    pub fn serves(&self, serves: Arc<dyn Serves>) {
        *self.presence.serves.lock() = Some(serves);
    }

    /// Whether it is to go as soon as it waits. `poll_told` has left a waker before.
    pub fn is_told(&self) -> bool {
        self.presence.told.load(Relaxed)
    }

    /// Ready: it is to go as soon as it waits.
    pub fn poll_told(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.presence.waker.register(cx.waker());
        match self.is_told() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// It has become a socket, which goes for nobody. What counts it.
    pub fn into_share(self) -> Option<Share<IpAddr>> {
        self.presence.share.lock().take()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.connections.remove(self.index);
        if open.connections.capacity() / 8 > open.connections.len().max(8) {
            open.connections.shrink_to_fit();
        }
    }
}

/// tokio's time, as the clocks of connections have it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
