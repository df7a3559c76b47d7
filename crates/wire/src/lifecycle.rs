//! The life of a guest from the agent's start to its shutdown: prepare, set up, quiesce.
//!
//! `Prepare` does what every machine of one template has in common and nothing of a user: it is done before the template
//! is saved. `SetUp` makes the machine one of a kind: it is done after a boot and after every restore.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where the workspace is in the root of a machine that has one.
pub const WORKSPACE_MOUNT: &str = "/workspace";

/// The baseline of the workspace on the workspace disk: what it was seeded with. The guest never writes there.
pub const WORKSPACE_LOWER: &str = "workspace/lower";

/// What was changed above the baseline, on the workspace disk.
pub const WORKSPACE_UPPER: &str = "workspace/upper";

/// How long a frozen disk stays so when nobody lets it be written again.
pub const FROZEN_MS_MAX: u64 = 10_000;

/// Mounts what all machines of one template share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The disk (by virtio serial) that holds the environment's ext4 root filesystem.
    pub environment_disk: String,
    /// The disk that holds the kernel's modules as an ext4 image with `<release>/…` at its top; mounted read-only at
    /// `/usr/lib/modules` of the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules_disk: Option<String>,
    /// What the root is made of.
    pub root: RootKind,
    /// The workspace disk, when every machine begins with the same empty one: it is mounted, and the root entered, already
    /// now. Only with [`RootKind::Overlay`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh_disk: Option<String>,
    /// Whether the machine has a network interface: its driver is loaded, and it is there when this is answered.
    #[serde(default, skip_serializing_if = "is_false")]
    pub network: bool,
    /// Absolute paths in the environment whose files are read into the page cache; missing ones are passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warm_paths: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How the guest's root filesystem comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootKind {
    /// The environment read-only below, the workspace disk above it. What every machine of a user has.
    Overlay,
    /// The environment's disk itself, writable. Only for building an environment.
    Writable,
}

/// What is at [`WORKSPACE_MOUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceMount {
    /// Whatever the root has there.
    #[default]
    Absent,
    /// An overlay of the workspace disk's own: [`WORKSPACE_LOWER`] below, [`WORKSPACE_UPPER`] above. Only with
    /// [`RootKind::Overlay`].
    Overlay,
}

/// Makes the machine one of a kind, and ready for commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUp {
    /// The disk that holds the workspace's ext4 filesystem, the upper layer; required for [`RootKind::Overlay`], unless
    /// [`Prepare::fresh_disk`] named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_disk: Option<String>,
    /// Whether the machine has a workspace at [`WORKSPACE_MOUNT`].
    #[serde(default)]
    pub workspace: WorkspaceMount,
    /// Host name of the guest, also written to `/etc/hostname` and `/etc/hosts`.
    pub hostname: String,
    /// 32 lower-case hex digits for `/etc/machine-id`.
    pub machine_id: String,
    /// Wall clock of the host, nanoseconds since 1970-01-01 UTC.
    pub clock_unix_ns: u64,
    /// 32 to 512 bytes from the host's random generator, credited to and mixed into the kernel's, which is reseeded at once.
    pub entropy: Vec<u8>,
    /// The network, in a machine that was prepared with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// How the guest's only interface to the outside is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its addresses with the bits of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where everything else is reached, at most one of each kind.
    pub gateways: Vec<IpAddr>,
    /// Who answers names; written to `/etc/resolv.conf`.
    pub name_server: IpAddr,
    /// Longest packet.
    pub mtu_bytes: u32,
}

/// What the agent says once commands may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// `uname -r`.
    pub kernel_release: String,
    /// Milliseconds since the kernel started, by the guest's own clock.
    pub uptime_ms: u64,
}
