//! What a connection to an app takes of this machine: a descriptor of the process, and a local port toward the endpoint.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};

use crate::runtime::shares::{Share, Shares};
use crate::runtime::traffic::DialResult;

/// Counts a connection for as long as it is open.
#[derive(Debug)]
pub struct Descriptor {
    _share: Share<Arc<str>>,
    ports: Ports,
}

/// Local ports in use toward one address and port: connections that are open.
#[derive(Clone, Debug, Default)]
pub struct Ports(Arc<AtomicUsize>);

impl Descriptor {
    /// For one connection that a request of this namespace opens. Refused before the kernel would refuse it, which would
    /// search all ports first, and would have nothing left for others.
    pub fn take(descriptors: &Shares<Arc<str>>, namespace: &Arc<str>, ports: &Ports) -> Result<Self, DialResult> {
        let share = descriptors
            .take(namespace.clone(), 1)
            .ok_or(DialResult::NoDescriptors)?;
        let before = ports.0.fetch_add(1, Relaxed);
        let descriptor = Self {
            _share: share,
            ports: ports.clone(),
        };
        match before < *PORTS {
            true => Ok(descriptor),
            false => Err(DialResult::NoPorts),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.ports.0.fetch_sub(1, Relaxed);
    }
}

impl Ports {
    /// How much of them is free: 1 is all.
    pub fn free(&self) -> f64 {
        1.0 - (self.0.load(Relaxed) as f64 / *PORTS as f64).min(1.0)
    }
}

/// Local ports that the kernel picks from, for each address and port that is connected to.
static PORTS: LazyLock<usize> = LazyLock::new(|| {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    read_range(&range).unwrap_or(DEFAULT_PORTS)
});

/// 32768 to 60999, the kernel's own default.
const DEFAULT_PORTS: usize = 28_232;

fn read_range(text: &str) -> Option<usize> {
    let mut ends = text.split_whitespace().map(str::parse::<usize>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(last.checked_sub(first)? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_a_descriptor_and_a_port_until_it_closes() {
        let (descriptors, namespace) = (Shares::new(2, 8), Arc::<str>::from("shop"));
        let ports = Ports::default();
        let take = || Descriptor::take(&descriptors, &namespace, &ports);
        let one = take().expect("a descriptor");
        assert!(ports.free() < 1.0);
        let other = Descriptor::take(&descriptors, &"other".into(), &ports).expect("a descriptor");
        assert_eq!(take().err(), Some(DialResult::NoDescriptors));
        drop((one, other));
        assert_eq!((descriptors.free(), ports.free()), (2, 1.0));
    }

    #[test]
    fn an_endpoint_to_which_no_port_is_left_is_not_dialled() {
        let ports = Ports::default();
        ports.0.store(*PORTS, Relaxed);
        let taken = Descriptor::take(&Shares::default(), &"shop".into(), &ports);
        assert_eq!(taken.err(), Some(DialResult::NoPorts));
        assert_eq!((ports.0.load(Relaxed), ports.free()), (*PORTS, 0.0));
    }

    #[test]
    fn the_range_is_read_as_the_kernel_writes_it() {
        assert_eq!(read_range("32768\t60999\n"), Some(DEFAULT_PORTS));
        assert_eq!(
            (read_range(""), read_range("9 1"), read_range("x y")),
            (None, None, None)
        );
    }
}
