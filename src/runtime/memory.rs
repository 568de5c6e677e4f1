//! How much memory the process may use, and how much it uses.

use std::fs;

/// In bytes. The least of what is said, of what the control group allows and of what the machine has.
pub fn limit(said: Option<u64>) -> u64 {
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let group = group.iter().find_map(|file| number(&fs::read_to_string(file).ok()?));
    let all = [said, group, machine()];
    all.into_iter().flatten().min().unwrap_or(u64::MAX)
}

/// In bytes: what is resident.
pub fn used() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| number(text.split_whitespace().nth(1)?));
    pages.unwrap_or_default() * rustix::param::page_size() as u64
}

fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(number(line.trim().strip_suffix("kB")?)? * 1024)
}

/// None: "max", as the control group says it, is no number.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_bounds_it_and_the_machine_in_any_case() {
        let machine = machine().expect("a machine with memory");
        assert_eq!(limit(Some(1 << 20)), 1 << 20);
        assert!(limit(None) <= machine && limit(Some(u64::MAX)) <= machine);
    }

    #[test]
    fn what_is_used_grows_with_what_is_touched() {
        let before = used();
        let touched = vec![1_u8; 64 << 20];
        assert!(used() >= before + (60 << 20), "{before}, then {}", used());
        drop(touched);
    }
}
