// UNSAFETY: asking a device for its version is an ioctl, which no safe wrapper of a light crate offers.
//! `/dev/kvm`: whether machines can open it, and if not, why and what helps.
//!
//! That it opens is not proof that it works: only a guest's boot is, which whoever chooses between KVM and emulation makes.

#![expect(unsafe_code, reason = "one ioctl without arguments")]

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use rustix::process::Gid;

use super::driver::LaunchError;
use super::identity::Identity;
use super::spec::Accelerator;

/// The device of KVM.
pub(super) const KVM_DEVICE: &str = "/dev/kvm";

/// The only version of the interface there ever was; the kernel's own documentation says to refuse any other.
const API_VERSION: i32 = 12;

/// What became of an attempt to use `/dev/kvm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmDevice {
    /// There is none: no virtualization in this processor or virtual machine, or its module is not loaded.
    Missing,
    /// Machines can open it, and it answers.
    Opens,
    /// This process may not open it.
    Denied(KvmDenial),
    /// It is there and does not answer as it should.
    Broken {
        /// What happened.
        reason: String,
    },
}

/// Why `/dev/kvm` may not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmDenial {
    /// The user is not in the group that may.
    NotInGroup {
        /// The group's name, or its number.
        group: String,
    },
    /// The user is in the group, but this process is older than that.
    SessionTooOld {
        /// The group's name, or its number.
        group: String,
    },
    /// Only its owner may.
    OwnerOnly,
    /// pyro is root and may, but only root may, and machines do not run as root.
    RootOnly,
}

impl KvmDevice {
    /// Tries the device: opens it, and asks for its version. Nothing is made or changed.
    #[must_use]
    pub fn examine() -> Self {
        let metadata = match std::fs::metadata(KVM_DEVICE) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Missing,
            Err(error) => return Self::Broken { reason: error.to_string() },
        };
        let device = match File::options().read(true).write(true).open(KVM_DEVICE) {
            Ok(device) => device,
            Err(error) => return Self::not_opened(&error, &metadata),
        };
        match api_version(&device) {
            Ok(API_VERSION) => {}
            Ok(version) => return Self::Broken { reason: format!("it speaks version {version}, not {API_VERSION}") },
            Err(error) => return Self::Broken { reason: format!("it does not tell its version: {error}") },
        }
        match Identity::choose(true) {
            Identity::Own { groups, .. } if groups.is_empty() && metadata.mode() & 0o006 != 0o006 => {
                Self::Denied(KvmDenial::RootOnly)
            }
            _ => Self::Opens,
        }
    }

    fn not_opened(error: &io::Error, metadata: &Metadata) -> Self {
        match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            // A device file that no driver stands behind is as good as none.
            Some(rustix::io::Errno::NXIO | rustix::io::Errno::NODEV | rustix::io::Errno::NOENT) => Self::Missing,
            Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Self::Denied(denial(metadata)),
            _ => Self::Broken { reason: error.to_string() },
        }
    }

    /// The device, or an error with what helps.
    pub(super) fn require(&self) -> Result<(), LaunchError> {
        let reason = match (self.problem(), self.fix()) {
            (None, _) => return Ok(()),
            (Some(problem), None) => problem,
            (Some(problem), Some(fix)) => format!("{problem} ({fix})"),
        };
        Err(LaunchError::AcceleratorUnusable { accelerator: Accelerator::Kvm.name(), reason })
    }

    /// Why machines cannot use it, in one clause; `None` if they can open it.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        Some(match self {
            Self::Opens => return None,
            Self::Missing => format!("there is no {KVM_DEVICE}"),
            Self::Denied(KvmDenial::NotInGroup { group }) => {
                format!("{KVM_DEVICE} is for the group {group}, which this user is not in")
            }
            Self::Denied(KvmDenial::SessionTooOld { group }) => {
                format!("this user is in the group {group} of {KVM_DEVICE}, but this session is older than that")
            }
            Self::Denied(KvmDenial::OwnerOnly) => format!("{KVM_DEVICE} is for its owner only"),
            Self::Denied(KvmDenial::RootOnly) => {
                format!("{KVM_DEVICE} is for root only, and machines do not run as root")
            }
            Self::Broken { reason } => format!("{KVM_DEVICE} does not work: {reason}"),
        })
    }

    /// What a user can do about it; `None` if nothing needs to be done.
    #[must_use]
    pub fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Opens => return None,
            Self::Missing => {
                "switch virtualization on in the firmware (or nested virtualization in the cloud), and load the module: \
                 modprobe kvm_intel or kvm_amd"
                    .to_owned()
            }
            Self::Denied(KvmDenial::NotInGroup { group }) => {
                format!("sudo usermod -aG {group} \"$USER\", then log in again")
            }
            Self::Denied(KvmDenial::SessionTooOld { group }) => {
                format!("log in again, or run pyro through: sg {group} -c 'pyro …'")
            }
            Self::Denied(KvmDenial::OwnerOnly | KvmDenial::RootOnly) => {
                format!("sudo chgrp kvm {KVM_DEVICE} && sudo chmod 660 {KVM_DEVICE}")
            }
            Self::Broken { .. } => "see the kernel's log: dmesg | grep -i kvm".to_owned(),
        })
    }

    /// Everything about the device that decides who may open it, as one word: part of what a verdict is remembered by.
    #[must_use]
    pub fn mark() -> String {
        match std::fs::metadata(KVM_DEVICE) {
            Ok(file) => format!("{:x}:{:o}:{}:{}", file.rdev(), file.mode(), file.uid(), file.gid()),
            Err(_) => "none".to_owned(),
        }
    }
}

fn api_version(device: &File) -> io::Result<i32> {
    const KVM_GET_API_VERSION: libc::Ioctl = 0xae00;
    // SAFETY: `KVM_GET_API_VERSION` takes the integer 0 and touches no memory of the caller; its answer is its result.
    let version = unsafe { libc::ioctl(device.as_raw_fd(), KVM_GET_API_VERSION, 0) };
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version) }
}

fn denial(metadata: &Metadata) -> KvmDenial {
    if metadata.mode() & 0o060 != 0o060 {
        return KvmDenial::OwnerOnly;
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (groups, users) = (read("/etc/group"), read("/etc/passwd"));
    let group = group_of(&groups, metadata.gid());
    let name = group.map_or_else(|| metadata.gid().to_string(), |(name, _)| name.to_owned());
    let user = user_name(&users, rustix::process::getuid().as_raw());
    let listed = group.zip(user).is_some_and(|((_, members), user)| members.split(',').any(|member| member == user));
    let has = rustix::process::getgroups().is_ok_and(|groups| groups.contains(&Gid::from_raw(metadata.gid())));
    if listed && !has { KvmDenial::SessionTooOld { group: name } } else { KvmDenial::NotInGroup { group: name } }
}

/// Name and members of a group.
fn group_of(groups: &str, id: u32) -> Option<(&str, &str)> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number, members) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(id)).then_some((name, members))
    })
}

fn user_name(users: &str, id: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(id)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::{KvmDenial, KvmDevice, group_of, user_name};

    #[test]
    fn groups_and_users_are_found_by_number() {
        let groups = "root:x:0:\nkvm:x:104:ann,bob\nbroken\n";
        assert_eq!(group_of(groups, 104), Some(("kvm", "ann,bob")));
        assert_eq!(group_of(groups, 5), None);
        assert_eq!(user_name("root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n", 1000), Some("ann"));
    }

    #[test]
    fn every_problem_has_a_fix() {
        let group = || "kvm".to_owned();
        let states = [
            KvmDevice::Missing,
            KvmDevice::Denied(KvmDenial::NotInGroup { group: group() }),
            KvmDevice::Denied(KvmDenial::SessionTooOld { group: group() }),
            KvmDevice::Denied(KvmDenial::OwnerOnly),
            KvmDevice::Denied(KvmDenial::RootOnly),
            KvmDevice::Broken { reason: "x".to_owned() },
        ];
        for state in states {
            assert!(state.problem().is_some() && state.fix().is_some(), "{state:?}");
        }
        assert_eq!((KvmDevice::Opens.problem(), KvmDevice::Opens.fix()), (None, None));
    }
}
