//! One microVM: what it is made of, who runs it, how it ends. Knows no workspace, no environment and no wire message.
//!
//! [`spec`] says what a machine is, [`driver`] is the seam a hypervisor stands behind, [`drivers`] holds the
//! hypervisors, [`process`] and [`jail`] start and lock down their processes, [`accelerator`] decides between KVM and emulation.

mod console;
pub mod driver;
pub mod drivers;
mod host;
mod identity;
mod jail;
mod process;
pub mod spec;

pub use driver::{Driver, ExitCause, LaunchError, Machine, MachineExit, SaveError};
pub use spec::{Accelerator, AcceleratorChoice, Disk, DiskFormat, DiskLayer, Flush, MachineSpec, Memory, Start};
