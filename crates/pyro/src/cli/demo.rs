//! `demo`: the life of a machine, step by step, and what each step proves. The steps are told on standard error, the
//! summary is one JSON object on standard output.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use pyro_engine::Settings;
use pyro_engine::store::workspace_record::{NetworkPolicy, NetworkRecord};
use pyro_engine::supervisor::start::Warmth;
use pyro_engine::workspace::command::{CommandEnd, CommandRequest, CommandStreams, Exit};
use pyro_engine::workspace::doctor;
use pyro_engine::workspace::machines::MachineSize;
use pyro_engine::workspace::network;
use pyro_engine::workspace::run::{RunOutcome, RunRequest, run};
use tokio::sync::mpsc;

use super::Face;
use crate::failure::{EXIT_REFUSED, Failure};
use crate::progress::Painter;
use crate::report::captured::Capture;
use crate::report::demo::{DemoReport, Step};
use crate::report::doctor::DoctorReport;
use crate::report::run::accelerator_name;
use crate::report::{Report as _, clean, units};
use crate::{interrupt, report};

/// What the demonstration runs in.
const ENVIRONMENT: &str = "debian:12";
/// Where clouds tell a machine its secrets.
const METADATA: &str = "169.254.169.254";
/// With this code curl says that a connection was refused.
const CURL_REFUSED: u8 = 7;
/// Limit of a command that ends by itself.
const LIMIT: Duration = Duration::from_secs(60);
/// Limit of the command that does not.
const SHORT_LIMIT: Duration = Duration::from_secs(2);

const ABOUT: &str = "\
Every step says what it does, what was seen, and what that proves. The environment debian:12 is
fetched when it is not there. The summary on standard output is one JSON object; the exit code is
0 when every step was as it should be.";

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(crate) struct DemoArgs {
    /// Also start a machine with the network policy egress, and show what it reaches and what it is refused
    #[arg(long)]
    network: bool,
}

impl DemoArgs {
    pub(crate) fn handle(&self, face: &Face) -> Result<ExitCode, Failure> {
        let settings = face.settings()?;
        let (painter, with_network) = (face.painter(), self.network);
        let show = Show { face, settings: &settings, painter, with_network, steps: Vec::new() };
        let report = interrupt::block_on(show.play())?;
        report::print(&report, true, false)?;
        Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
    }
}

/// The demonstration under way.
struct Show<'a> {
    face: &'a Face,
    settings: &'a Settings,
    painter: Painter,
    with_network: bool,
    steps: Vec<Step>,
}

/// What a guest command did.
struct Seen {
    outcome: RunOutcome,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// What a step says: what was seen, and whether it is what it should be.
type Finding = Result<(String, bool), Failure>;

impl Show<'_> {
    async fn play(mut self) -> Result<DemoReport, Failure> {
        let begun = Instant::now();
        let finding = self.host().await;
        if !self.step("host", "everything that machines need of this host is there", finding) {
            return Ok(DemoReport::new(ENVIRONMENT, self.steps, begun.elapsed()));
        }
        let finding = self.environment().await;
        let usable =
            self.step("environment", "the guest's files come from signed packages, built without root", finding);
        if usable {
            self.machine_steps().await;
        }
        let finding = Ok(nothing_left());
        self.step("after", "a machine leaves nothing behind: its disk was a file without a name", finding);
        Ok(DemoReport::new(ENVIRONMENT, self.steps, begun.elapsed()))
    }

    async fn machine_steps(&mut self) {
        let finding = self.boot().await;
        if !self.step("boot", "the command ran under a kernel of its own, not the host's", finding) {
            // Without a machine every further step would only say the same again.
            return;
        }
        let finding = self.streams().await;
        self.step(
            "streams",
            "output and errors stay apart, byte for byte, and the exit code is the command's",
            finding,
        );
        let finding = self.network().await;
        self.step("network", "nothing can be reached: the machine has no network device", finding);
        if self.with_network {
            let finding = self.names().await;
            self.step("names", "a machine with the policy egress is told the addresses that this host knows", finding);
            let finding = self.metadata().await;
            self.step(
                "metadata",
                "what is private or tells secrets stays closed, and the guest hears so at once",
                finding,
            );
        }
        let finding = self.fresh().await;
        self.step("fresh", "what a command did to its machine is gone with it", finding);
        let finding = self.timeout().await;
        self.step("timeout", "a command that runs too long is killed with all it started; its output is kept", finding);
    }

    /// Notes a step and tells it. Says whether it was as it should be.
    fn step(&mut self, name: &'static str, proves: &'static str, finding: Finding) -> bool {
        let (seen, ok) = finding.unwrap_or_else(|failure| (failure.in_one_line(), false));
        let seen = clean::one_line(&seen);
        self.painter.clear();
        self.face.say(&format!("{} {name}: {seen}", if ok { "ok  " } else { "FAIL" }));
        self.face.say(&format!("     proves: {proves}"));
        self.steps.push(Step { name, ok, seen, proves });
        ok
    }

    async fn host(&self) -> Finding {
        let checks = super::doctor::host_checks(self.settings).await;
        let report = DoctorReport::new(checks);
        let words = report.failed().unwrap_or_else(|| "QEMU, memory and disk are as they should be".to_owned());
        Ok((words, report.ok()))
    }

    async fn environment(&self) -> Finding {
        let report = |progress| self.painter.report(progress);
        let package_count = super::env::present(self.settings, ENVIRONMENT, &report).await?;
        Ok((format!("{ENVIRONMENT}, {} packages", package_count), true))
    }

    async fn boot(&self) -> Finding {
        let seen = self.guest(&["uname", "-r"], LIMIT).await?;
        let host = doctor::platform().kernel_release;
        let guest = String::from_utf8_lossy(&seen.stdout).trim().to_owned();
        let words = format!(
            "kernel {guest} on {}, ready after {} (the host runs {host})",
            accelerator_name(seen.outcome.accelerator),
            units::duration(Duration::from_millis(seen.outcome.start_ms)),
        );
        Ok((words, seen.code() == Some(0) && !guest.is_empty() && guest != host))
    }

    async fn streams(&self) -> Finding {
        let seen = self.guest(&["sh", "-c", r"printf '\377\0x'; echo err >&2; exit 7"], LIMIT).await?;
        let words = format!(
            "standard output '{}', standard error '{}', exit code {}",
            seen.stdout.escape_ascii(),
            seen.stderr.escape_ascii(),
            seen.code().map_or_else(|| "none".to_owned(), |code| code.to_string()),
        );
        Ok((words, seen.stdout == b"\xff\0x" && seen.stderr == b"err\n" && seen.code() == Some(7)))
    }

    async fn network(&self) -> Finding {
        let seen = self.guest(&["ls", "/sys/class/net"], LIMIT).await?;
        let devices = String::from_utf8_lossy(&seen.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        let alone = seen.stdout == b"lo\n" || seen.stdout.is_empty();
        Ok((
            format!("network devices: {}", if devices.is_empty() { "none" } else { &devices }),
            seen.code() == Some(0) && alone,
        ))
    }

    async fn names(&self) -> Finding {
        let name = host_of(&self.settings.environment.debian.mirror_url);
        let seen = self.guest_in(egress()?, &["getent", "ahosts", name], LIMIT).await?;
        let address = String::from_utf8_lossy(&seen.stdout).split_whitespace().next().map(str::to_owned);
        let known_here = tokio::net::lookup_host((name, 80)).await.is_ok_and(|mut found| found.next().is_some());
        Ok(match (address, known_here) {
            (Some(address), _) => (format!("{name} is {address} in the guest"), true),
            (None, true) => (format!("{name} has no address in the guest, but one on this host"), false),
            (None, false) => {
                (format!("{name} has no address in the guest, and none on this host: is it offline?"), true)
            }
        })
    }

    async fn metadata(&self) -> Finding {
        let url = format!("http://{METADATA}/");
        let seen = self.guest_in(egress()?, &["curl", "-sS", "--max-time", "20", &url], LIMIT).await?;
        let refusal = seen.outcome.refusals.iter().find(|refusal| refusal.to.starts_with(METADATA));
        let took = units::duration(Duration::from_millis(seen.outcome.command.duration_ms));
        let words = match refusal {
            Some(refusal) => format!("{} was refused within {took}: {}", refusal.to, refusal.rule),
            None => format!("{METADATA} was not refused"),
        };
        Ok((words, refusal.is_some() && seen.code() == Some(CURL_REFUSED)))
    }

    async fn fresh(&self) -> Finding {
        let first = self.guest(&["sh", "-c", "echo was here > /root/mark; cat /root/mark"], LIMIT).await?;
        let second = self.guest(&["sh", "-c", "test ! -e /root/mark"], LIMIT).await?;
        let (written, gone) = (first.stdout == b"was here\n", second.code() == Some(0));
        let words = match (written, gone) {
            (true, true) => "a file written in one machine is not in the next",
            (true, false) => "a file written in one machine is in the next",
            (false, _) => "a file could not be written",
        };
        Ok((words.to_owned(), written && gone))
    }

    async fn timeout(&self) -> Finding {
        let seen = self.guest(&["sh", "-c", "echo begun; sleep 60 & sleep 60"], SHORT_LIMIT).await?;
        let ended = seen.outcome.command.end == CommandEnd::Exited(Exit::TimedOut);
        let ran = units::duration(Duration::from_millis(seen.outcome.command.duration_ms));
        let output = seen.stdout.escape_ascii();
        let words = format!("{} after {ran}, output '{output}'", if ended { "killed" } else { "ended" });
        Ok((words, ended && seen.stdout == b"begun\n"))
    }

    async fn guest(&self, argv: &[&str], timeout: Duration) -> Result<Seen, Failure> {
        self.guest_in(NetworkRecord::default(), argv, timeout).await
    }

    async fn guest_in(&self, network: NetworkRecord, argv: &[&str], timeout: Duration) -> Result<Seen, Failure> {
        let request = RunRequest {
            network,
            environment: ENVIRONMENT.to_owned(),
            size: MachineSize::default(),
            warmth: Warmth::Warm,
            command: CommandRequest {
                argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
                env: std::collections::BTreeMap::new(),
                cwd: b"/".to_vec(),
                timeout,
                terminal: None,
            },
        };
        let report = |progress| self.painter.report(progress);
        let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
        let (_wishes, control) = mpsc::channel(1);
        let streams = CommandStreams { stdin: None, stdout: &mut stdout, stderr: &mut stderr, control };
        let outcome = run(self.settings, request, streams, &report).await?;
        Ok(Seen { outcome, stdout: stdout.into_bytes().0, stderr: stderr.into_bytes().0 })
    }
}

impl Seen {
    fn code(&self) -> Option<u8> {
        match self.outcome.command.end {
            CommandEnd::Exited(Exit::Code(code)) => Some(code),
            _ => None,
        }
    }
}

fn egress() -> Result<NetworkRecord, Failure> {
    Ok(network::record(NetworkPolicy::Egress, &[], &[])?)
}

/// The host of a URL.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    place.rsplit_once(':').map_or(place, |(host, _)| host)
}

fn nothing_left() -> (String, bool) {
    let children = doctor::child_processes();
    if children.is_empty() {
        return ("no process of a machine is left".to_owned(), true);
    }
    (format!("processes are left: {children:?}"), false)
}
