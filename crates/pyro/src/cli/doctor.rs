//! `doctor`: whether this host is ready, and what to do where it is not. It always answers, whatever is missing.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pyro_engine::Settings;
use pyro_engine::environment::InstalledState;
use pyro_engine::environment::sources::debian::probe_reachable;
use pyro_engine::machine::drivers::DriverKind;
use pyro_engine::machine::host;
use pyro_engine::machine::kvm::KvmDevice;
use pyro_engine::store::home::Home;
use pyro_engine::supervisor::accelerator;
use pyro_engine::supervisor::start::Warmth;
use pyro_engine::workspace::Workspaces;
use pyro_engine::workspace::command::{CommandRequest, CommandStreams};
use pyro_engine::workspace::doctor;
use pyro_engine::workspace::machines::MachineSize;
use pyro_engine::workspace::run::{RunRequest, run};
use tokio::sync::mpsc;

use super::Face;
use crate::failure::{EXIT_REFUSED, Failure, Kind};
use crate::report::Report as _;
use crate::report::captured::Capture;
use crate::report::doctor::{self as judge, Check, DoctorReport};
use crate::report::run::accelerator_name;
use crate::report::units;
use crate::{interrupt, report};

/// The release that the archive is asked for.
const RELEASE: &str = "bookworm";

/// How long the command of a guest that is booted to see whether it does may take.
const BOOT_COMMAND_LIMIT: Duration = Duration::from_secs(60);

const EXIT_CODES: &str = "\
Nothing is created or changed; only --boot tries KVM anew and remembers the outcome.
Exit code: 0 when this host is ready, 1 when a check failed.";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DoctorArgs {
    /// Really boot a guest of an installed environment
    #[arg(long)]
    boot: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl DoctorArgs {
    pub(crate) fn handle(&self, face: &Face) -> Result<ExitCode, Failure> {
        let mut checks = vec![judge::platform(&doctor::platform(), &host::cpu())];
        match face.settings() {
            Ok(settings) => checks.extend(interrupt::block_on(self.all_checks(&settings, face))?),
            Err(failure) => checks.push(failure.into_check("settings")),
        }
        let report = DoctorReport::new(checks);
        report::print(&report, self.json, face.color())?;
        Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
    }

    async fn all_checks(&self, settings: &Settings, face: &Face) -> Result<Vec<Check>, Failure> {
        let boot = if self.boot { Some(judge::boot(boot(settings, face).await)) } else { None };
        let mut checks = host_checks(settings).await;
        let environments = settings.environments();
        let list = environments.list();
        let installed = list.as_ref().ok().and_then(|list| {
            let is_installed = |state: &InstalledState| matches!(state, InstalledState::Yes { .. });
            list.iter().find(|summary| is_installed(&summary.installed)).map(|summary| summary.name.clone())
        });
        checks.push(judge::environments(list));
        checks.extend(installed.as_ref().map(|name| judge::kernel(environments.open(name))));
        let answer = probe_reachable(&settings.environment.debian, &settings.environment.proxy, RELEASE)
            .await
            .map_err(Failure::from);
        checks.push(judge::leftovers(Workspaces::new(settings).leftovers()));
        checks.push(judge::archive(&settings.environment.debian.mirror_url, answer, installed.is_some()));
        checks.extend(boot);
        Ok(checks)
    }
}

/// What machines need of the host: the hypervisor, memory, room.
pub(crate) async fn host_checks(settings: &Settings) -> Vec<Check> {
    let home = Home::new(&settings.cache_dir, &settings.state_dir);
    let driver = DriverKind::default().driver(&settings.qemu_program, &settings.path_dirs);
    vec![
        judge::qemu(host::qemu(&settings.qemu_program, &settings.path_dirs).await),
        judge::kvm(&KvmDevice::examine(), settings.accelerator),
        judge::accelerator(accelerator::known(&*driver, &home, settings.accelerator).as_ref()),
        judge::confinement(host::confines_files()),
        judge::memory(doctor::memory()),
        judge::cache(&doctor::directory(&settings.cache_dir)),
        judge::state(&doctor::directory(&settings.state_dir)),
    ]
}

/// Boots the first installed environment and asks its kernel who it is.
async fn boot(settings: &Settings, face: &Face) -> Result<String, Failure> {
    let list = settings.environments().list()?;
    let usable = list.into_iter().find(|summary| matches!(summary.installed, InstalledState::Yes { .. }));
    let Some(environment) = usable else {
        return Err(Failure::new(Kind::NotFound, "no environment is installed to boot").hint("pyro env pull debian:12"));
    };
    // What was found out about KVM earlier is found out again.
    accelerator::forget(&Home::new(&settings.cache_dir, &settings.state_dir));
    let request = RunRequest {
        network: Default::default(),
        environment: environment.name.clone(),
        size: MachineSize::default(),
        warmth: Warmth::Cold,
        command: CommandRequest {
            argv: [&b"uname"[..], b"-sr"].map(<[u8]>::to_vec).to_vec(),
            env: BTreeMap::new(),
            cwd: b"/".to_vec(),
            timeout: BOOT_COMMAND_LIMIT,
            terminal: None,
        },
    };
    let painter = face.painter();
    let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
    let (_wishes, control) = mpsc::channel(1);
    let streams = CommandStreams { stdin: None, stdout: &mut stdout, stderr: &mut stderr, control };
    let outcome = run(settings, request, streams, &|progress| painter.report(progress)).await?;
    let said = String::from_utf8_lossy(&stdout.into_bytes().0).trim().to_owned();
    let code = report::run::exit_code(outcome.command.end);
    if code != 0 || said.is_empty() {
        return Err(Failure::new(Kind::Guest, format!("{} booted, but 'uname' ended with {code}", environment.name)));
    }
    let took = units::duration(Duration::from_millis(outcome.start_ms));
    let accelerator = accelerator_name(outcome.accelerator);
    Ok(format!("{} took commands {took} after a cold start on {accelerator}: {said}", environment.name))
}
