//! Machines from environments: what every operation that needs a machine does first.

use std::fs::File;
use std::io;

use pyro_wire::lifecycle::{RootKind, WorkspaceMount};

use super::network::NetworkError;
use crate::Settings;
use crate::environment::{EnvironmentError, Environments, GuestKernel, InstalledEnvironment};
use crate::machine::drivers::DriverKind;
use crate::machine::{Accelerator, Driver, FailedWrite, Flush, LaunchError};
use crate::progress::{Progress, Reporter};
use crate::store::home::Home;
use crate::supervisor::accelerator::{ProbeGuest, Verdict, decide};
use crate::supervisor::boot::Ready;
use crate::supervisor::driver::OpenLayers;
use crate::supervisor::plan::{MachinePlan, WorkspaceDisk, random_bytes};
use crate::supervisor::start::{Disks, Host, OpenDisk, StartError, Warmth, ensure_template, start};
use crate::supervisor::traffic::Traffic;

/// Size of the workspace disk of a machine that asks for none.
pub const DISK_GIB_DEFAULT: u32 = 16;

/// Size of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineSize {
    /// Virtual processors: 1 to the host's.
    pub vcpu_count: u32,
    /// Memory in MiB: 256 to 32768.
    pub mem_mib: u32,
    /// Workspace disk in GiB: 1 to 256; takes only the space of its data.
    pub disk_gib: u32,
}

impl Default for MachineSize {
    fn default() -> Self {
        Self { vcpu_count: 1, mem_mib: 1024, disk_gib: DISK_GIB_DEFAULT }
    }
}

/// Which machine.
#[derive(Debug, Clone, Copy)]
pub struct MachineRequest<'a> {
    /// What is in it.
    pub environment: &'a InstalledEnvironment,
    /// How big it is.
    pub size: MachineSize,
    /// What it runs on.
    pub accelerator: Accelerator,
    /// Its network, if it has one.
    pub network: Option<&'a Traffic>,
}

/// Why there is no machine. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The hypervisor cannot be used at all.
    #[error(transparent)]
    Driver(#[from] LaunchError),
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The blank disk it starts with cannot be made.
    #[error("cannot make the workspace disk")]
    BlankDisk(#[source] Box<EnvironmentError>),
    /// What its guest may reach cannot be understood.
    #[error("the network of the workspace cannot be set up")]
    Network(#[from] NetworkError),
    /// What is written of its workspace cannot be read.
    #[error("cannot read the record of the workspace")]
    Record(#[source] io::Error),
    /// The host has no randomness for its name.
    #[error("cannot name the machine")]
    Name(#[source] io::Error),
}

/// Makes machines on this host.
pub struct Machines<'a> {
    settings: &'a Settings,
    home: Home,
    driver: Box<dyn Driver>,
}

impl<'a> Machines<'a> {
    /// As the settings say; nothing is touched yet.
    #[must_use]
    pub fn new(settings: &'a Settings) -> Self {
        let home = Home::new(&settings.cache_dir, &settings.state_dir);
        let driver = DriverKind::default().driver(&settings.qemu_program, &settings.path_dirs);
        Self { settings, home, driver }
    }

    /// The environments of this host.
    #[must_use]
    pub fn environments(&self) -> Environments {
        self.settings.environments()
    }

    /// Runs machines.
    #[must_use]
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// Where things are.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// What machines run on. Emulation is told, never silent.
    ///
    /// # Errors
    /// The hypervisor is not installed.
    pub async fn accelerator(&self, kernel: &GuestKernel, report: Reporter<'_>) -> Result<Accelerator, LaunchError> {
        let verdict = self.verdict(kernel).await?;
        if !verdict.kvm {
            report(Progress::Note(format!("software emulation: {}", verdict.reason)));
        }
        Ok(verdict.accelerator())
    }

    /// What machines run on, and why.
    ///
    /// # Errors
    /// The hypervisor is not installed.
    pub async fn verdict(&self, kernel: &GuestKernel) -> Result<Verdict, LaunchError> {
        let guest = ProbeGuest { kernel: &kernel.image, initramfs: &kernel.initramfs };
        decide(&*self.driver, &self.home, self.settings.accelerator, guest).await
    }

    /// Starts a machine with a fresh workspace disk that vanishes with it.
    ///
    /// # Errors
    /// See [`MachineError`].
    pub async fn start(
        &self,
        request: MachineRequest<'_>,
        warmth: Warmth,
        report: Reporter<'_>,
    ) -> Result<Ready, MachineError> {
        let plan = MachinePlan { fresh_disk: true, ..plan(request) };
        let blank = self.blank_disk(request.size.disk_gib)?;
        let name = random_bytes(6).map_err(MachineError::Name)?;
        let hostname = format!("pyro-{}", crate::store::hex::encode(&name));
        let host = Host { network: request.network, ..self.host(report) };
        Ok(start(host, &plan, Disks::Fresh(&blank), &hostname, warmth).await?)
    }

    /// Starts the machine of a workspace on the layers of its disk.
    ///
    /// # Errors
    /// See [`MachineError`].
    pub async fn start_workspace(
        &self,
        request: MachineRequest<'_>,
        open_layers: OpenLayers<'_>,
        hostname: &str,
        report: Reporter<'_>,
    ) -> Result<Ready, MachineError> {
        let open = || {
            open_layers().map(|layers| WorkspaceDisk {
                layers,
                flush: Flush::Honoured,
                failed_write: FailedWrite::Waits,
            })
        };
        self.start_on_disk(request, &open, hostname, report).await
    }

    /// Starts a machine on a workspace's disk, as `open` opens it.
    ///
    /// # Errors
    /// See [`MachineError`].
    pub async fn start_on_disk(
        &self,
        request: MachineRequest<'_>,
        open: OpenDisk<'_>,
        hostname: &str,
        report: Reporter<'_>,
    ) -> Result<Ready, MachineError> {
        let plan = MachinePlan { workspace: WorkspaceMount::Overlay, ..plan(request) };
        let blank = self.blank_disk(request.size.disk_gib)?;
        let disks = Disks::Own { blank: &blank, open };
        let host = Host { network: request.network, ..self.host(report) };
        Ok(start(host, &plan, disks, hostname, Warmth::Warm).await?)
    }

    /// Makes the templates of such a machine, with a fresh disk and with a workspace's, if there are none.
    ///
    /// # Errors
    /// See [`MachineError`].
    pub async fn ensure_templates(
        &self,
        request: MachineRequest<'_>,
        report: Reporter<'_>,
    ) -> Result<(), MachineError> {
        let blank = self.blank_disk(request.size.disk_gib)?;
        for fresh_disk in [true, false] {
            let plan = MachinePlan { fresh_disk, ..plan(request) };
            ensure_template(self.host(report), &plan, &blank).await?;
        }
        Ok(())
    }

    fn host<'b>(&'b self, report: Reporter<'b>) -> Host<'b> {
        Host { driver: &*self.driver, home: &self.home, report, network: None }
    }

    fn blank_disk(&self, gib: u32) -> Result<File, MachineError> {
        self.environments().blank_disk(gib).map_err(|error| MachineError::BlankDisk(Box::new(error)))
    }
}

fn plan(MachineRequest { environment, size, accelerator, network }: MachineRequest<'_>) -> MachinePlan {
    MachinePlan {
        environment_digest: environment.digest.clone(),
        rootfs: environment.rootfs.clone(),
        kernel_digest: environment.kernel.digest.clone(),
        kernel: environment.kernel.image.clone(),
        initramfs: environment.kernel.initramfs.clone(),
        modules_image: environment.kernel.modules_image.clone(),
        vcpu_count: size.vcpu_count,
        mem_mib: size.mem_mib,
        disk_gib: size.disk_gib,
        fresh_disk: false,
        accelerator,
        root: RootKind::Overlay,
        workspace: WorkspaceMount::Absent,
        network: network.is_some(),
    }
}
