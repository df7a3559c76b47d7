//! Who a hypervisor runs as: a user and group that nothing else has when pyro may choose, pyro's own otherwise.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Gid, Uid};
use rustix::thread::CapabilitySet;

use super::kvm::KVM_DEVICE;

/// User ids from here on are used by no distribution: above those of systemd's containers, below 2^31.
const FIRST_USER: u32 = 0x7000_0000;

/// Machines of one pyro process that get a user each; process ids have 22 bits at most.
const USERS_PER_PROCESS: u32 = 16;

/// The user that owns nothing, for where the own ones are not mapped (a container with few user ids).
const NOBODY: u32 = 65534;

/// Who a hypervisor runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// As pyro itself: pyro is not root, or not allowed to become someone else.
    Pyro,
    /// As someone with no rights of its own.
    Own {
        /// The user.
        user: Uid,
        /// The group.
        group: Gid,
        /// Further groups: that of `/dev/kvm` at most.
        groups: Vec<Gid>,
    },
}

impl Identity {
    /// An identity for the next machine.
    pub(super) fn choose(kvm: bool) -> Self {
        if !rustix::process::geteuid().is_root() || !may_change() {
            return Self::Pyro;
        }
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed) % USERS_PER_PROCESS;
        let own = FIRST_USER + (std::process::id() & 0x3f_ffff) * USERS_PER_PROCESS + count;
        let is_mapped = |id| maps(Path::new("/proc/self/uid_map"), id) && maps(Path::new("/proc/self/gid_map"), id);
        let Some(id) = [own, NOBODY].into_iter().find(|&id| is_mapped(id)) else { return Self::Pyro };
        let groups = if kvm { kvm_group().into_iter().collect() } else { Vec::new() };
        Self::Own { user: Uid::from_raw(id), group: Gid::from_raw(id), groups }
    }

    /// Whether the user has nothing but one machine.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own { user, .. } if user.as_raw() != NOBODY)
    }

    /// Whether a file with these permission bits, of another owner, must be opened to everyone for this identity.
    pub(super) fn is_stranger(&self) -> bool {
        matches!(self, Self::Own { .. })
    }
}

fn may_change() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Whether a user namespace's map has this id.
fn maps(map: &Path, id: u32) -> bool {
    // Without the file there are no user namespaces, so every id exists.
    std::fs::read_to_string(map).map_or(true, |map| map_contains(&map, id))
}

fn map_contains(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => {
                (first..first.saturating_add(count)).contains(&id.into())
            }
            _ => false,
        }
    })
}

/// The group that may use `/dev/kvm`, where not everyone may. Root's own group is never given away.
fn kvm_group() -> Option<Gid> {
    let metadata = std::fs::metadata(KVM_DEVICE).ok()?;
    let group_only = metadata.mode() & 0o066 == 0o060;
    (group_only && metadata.gid() != 0).then(|| Gid::from_raw(metadata.gid()))
}

#[cfg(test)]
mod tests {
    use super::map_contains;

    #[track_caller]
    fn check(map: &str, id: u32, expected: bool) {
        assert_eq!(map_contains(map, id), expected, "{map:?} {id}");
    }

    #[test]
    fn a_map_tells_which_ids_exist() {
        check("         0          0 4294967295\n", 0x7000_0000, true);
        check("0 1000 1\n", 65534, false);
        check("0 1000 1\n1 100000 65536\n", 65534, true);
        check("0 1000 1\n1 100000 65536\n", 0x7000_0000, false);
        check("garbage", 0, false);
    }
}
