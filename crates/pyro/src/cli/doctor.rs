//! `doctor`: whether this host is ready, and what to do where it is not. It always answers, whatever is missing.

use std::process::ExitCode;

use clap::Args;
use pyro_engine::Settings;
use pyro_engine::environment::sources::debian::probe_reachable;
use pyro_engine::machine::drivers::DriverKind;
use pyro_engine::machine::host;
use pyro_engine::machine::kvm::KvmDevice;
use pyro_engine::store::home::Home;
use pyro_engine::supervisor::accelerator;
use pyro_engine::workspace::doctor;

use super::Face;
use crate::failure::{EXIT_REFUSED, Failure};
use crate::report::Report as _;
use crate::report::doctor::{self as judge, Check, DoctorReport};
use crate::{interrupt, report};

/// The release that the archive is asked for.
const RELEASE: &str = "bookworm";

const EXIT_CODES: &str = "Nothing is created or changed. Exit code: 0 when this host is ready, 1 when a check failed.";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl DoctorArgs {
    pub(crate) fn handle(&self, face: &Face) -> Result<ExitCode, Failure> {
        let mut checks = vec![judge::platform(&doctor::platform(), &host::cpu())];
        match face.settings() {
            Ok(settings) => checks.extend(interrupt::block_on(self.host_checks(&settings))?),
            Err(failure) => checks.push(failure.into_check("settings")),
        }
        let report = DoctorReport::new(checks);
        report::print(&report, self.json, face.color())?;
        Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
    }

    async fn host_checks(&self, settings: &Settings) -> Result<Vec<Check>, Failure> {
        let mirror_url = &settings.debian.mirror_url;
        let answer = probe_reachable(&settings.debian, &settings.proxy, RELEASE).await.map_err(Failure::from);
        let home = Home::new(&settings.cache_dir, &settings.state_dir);
        let driver = DriverKind::default().driver(&settings.qemu_program, &settings.path_dirs);
        Ok(vec![
            judge::qemu(host::qemu(&settings.qemu_program, &settings.path_dirs).await),
            judge::kvm(&KvmDevice::examine(), settings.accelerator),
            judge::accelerator(accelerator::known(&*driver, &home, settings.accelerator).as_ref()),
            judge::memory(doctor::memory()),
            judge::cache(&doctor::directory(&settings.cache_dir)),
            judge::state(&doctor::directory(&settings.state_dir)),
            judge::archive(mirror_url, answer),
        ])
    }
}
