//! How many descriptors the process may have open, how many are, and how they are divided between clients, apps and the rest.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// How the limit is divided. What is neither clients' nor apps' is kept for probes, scrapes, the apiserver and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Client connections.
    pub clients: usize,
    /// Connections to apps.
    pub apps: usize,
}

/// No installation has more: what is unlimited is as good as this.
const UNLIMITED: u64 = 1 << 30;
const MIN_KEPT: usize = 64;
const MAX_KEPT: usize = 1024;

impl Division {
    /// Half for clients, unless it is said how many they are, and the rest for apps: a socket has one of each. None: so many
    /// clients would leave nothing for their apps.
    pub fn of(limit: u64, clients: Option<usize>) -> Option<Self> {
        let limit = usize::try_from(limit.min(UNLIMITED)).unwrap_or(usize::MAX);
        let shared = limit - (limit / 4).clamp(MIN_KEPT.min(limit), MAX_KEPT);
        let clients = clients.unwrap_or(shared / 2);
        let apps = shared.checked_sub(clients).filter(|apps| *apps > 0)?;
        Some(Self { clients, apps })
    }
}

/// What the process may have open.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

/// What it has open.
pub fn open() -> u64 {
    let folder = "/proc/self/fd";
    // Since Linux 6.2 the size of the folder says it.
    match fs::metadata(folder).map(|folder| folder.len()) {
        Ok(count) if count > 0 => count,
        _ => fs::read_dir(folder).map_or(0, |all| all.count() as u64),
    }
}

/// Of all descriptors, how much is free: 1 is all.
pub fn free() -> f64 {
    1.0 - (open() as f64 / limit() as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_divided_evenly_and_something_is_kept() {
        let clients = |limit| Division::of(limit, None).map(|division| (division.clients, division.apps));
        assert_eq!(clients(1024), Some((384, 384)));
        assert_eq!(clients(20_000), Some((9_488, 9_488)));
        assert_eq!(clients(u64::MAX), clients(UNLIMITED));
        assert_eq!(clients(64), None);
    }

    #[test]
    fn a_number_of_clients_that_leaves_nothing_for_apps_is_refused() {
        let apps = |clients| Division::of(1024, Some(clients)).map(|division| division.apps);
        assert_eq!((apps(700), apps(768), apps(10_000)), (Some(68), None, None));
    }

    #[test]
    fn what_is_open_is_counted() {
        let before = open();
        let files: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null")).collect();
        assert!(open() >= before + 90, "{before}, then {}", open());
        drop(files);
        assert!((0.0..1.0).contains(&free()));
    }
}
