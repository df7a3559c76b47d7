//! One microVM: what it is made of, who runs it, how it ends. Knows no workspace, no environment and no wire message.
//!
//! [`spec`] says what a machine is, [`driver`] is the seam a hypervisor stands behind, [`drivers`] holds the hypervisors,
//! `process` and `jail` start and lock down their processes as someone of `identity`; [`host`] and [`kvm`] tell what the host
//! has for machines. What every driver must do is listed, and tried, in `conformance`.

#[cfg(test)]
mod conformance;
mod console;
pub mod driver;
pub mod drivers;
pub mod host;
mod identity;
mod jail;
pub mod kvm;
mod process;
pub mod qcow2;
pub mod spec;

pub use driver::{Driver, ExitCause, LaunchError, LayerError, Machine, MachineExit, SaveError};
pub use spec::{
    Accelerator, AcceleratorChoice, Disk, DiskFormat, DiskLayer, FailedWrite, Flush, MachineSpec, Memory, Start,
};
