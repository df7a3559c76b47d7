//! Whether a service is ready: looked at in the guest, by the agent's own program or by a line of shell.

use std::time::Duration;

use pyro_wire::exec::{ExecRequest, Exit, Program};
use pyro_wire::ready::AwaitReady;
use pyro_wire::tool::FAULT_BYTES_MAX;
use pyro_wire::{Fault, Stream, Tool};
use tokio::time::Instant;

use crate::supervisor::guest_link::{ExecEvent, GuestLink, LinkError};
use crate::supervisor::protocol::{ReadyAsk, ReadyBy};

/// How much longer than its own limit the tool is waited for.
const TOOL_SLACK: Duration = Duration::from_secs(10);

/// Bytes of the end of what a command printed that are told when it does not succeed.
const SEEN_BYTES_MAX: usize = 300;

/// Waits until the service of `request` is ready.
///
/// # Errors
/// What was seen last instead, in words of the guest. When the machine is lost nothing comes back: that is told elsewhere.
pub(super) async fn await_ready(link: GuestLink, ask: ReadyAsk, request: ExecRequest) -> Result<(), String> {
    let ReadyAsk { by, timeout_ms, interval_ms } = ask;
    let limit = Duration::from_millis(timeout_ms);
    match by {
        ReadyBy::Probe(probe) => {
            let tool = Tool::AwaitReady(AwaitReady { probe, interval_ms, timeout_ms });
            let looking = ExecRequest {
                program: Program::Tool(Box::new(tool)),
                env: std::collections::BTreeMap::new(),
                cwd: "/".into(),
                stdin: false,
                terminal: None,
                timeout_ms: Some(timeout_ms.saturating_add(as_ms(TOOL_SLACK))),
                whole: false,
            };
            let Ran { exit, printed } = run(&link, looking, FAULT_BYTES_MAX).await?;
            match (exit, serde_json::from_slice::<Fault>(&printed)) {
                (Exit::Code(0), _) => Ok(()),
                (_, Ok(fault)) => Err(fault.message),
                (exit, Err(_)) => Err(format!("the look at it {}", how(exit))),
            }
        }
        ReadyBy::Command(line) => {
            let argv = ["sh", "-lc", &line].map(Into::into).to_vec();
            let deadline = Instant::now() + limit;
            let pause = Duration::from_millis(interval_ms);
            loop {
                let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                let looking = ExecRequest {
                    program: Program::Argv(argv.clone()),
                    timeout_ms: Some(as_ms(left)),
                    whole: true,
                    ..request.clone()
                };
                let Ran { exit, printed } = run(&link, looking, SEEN_BYTES_MAX).await?;
                if exit == Exit::Code(0) {
                    return Ok(());
                }
                if deadline.saturating_duration_since(Instant::now()) <= pause {
                    let printed = String::from_utf8_lossy(&printed);
                    let last = printed.lines().rev().find(|line| !line.trim().is_empty()).map(str::trim);
                    let last = last.map(|line| format!(": {line}")).unwrap_or_default();
                    return Err(format!("the command {}{last}", how(exit)));
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// A command that was run to its end.
struct Ran {
    exit: Exit,
    /// The end of what it printed; of a tool what it said on standard error.
    printed: Vec<u8>,
}

async fn run(link: &GuestLink, request: ExecRequest, printed_bytes_max: usize) -> Result<Ran, String> {
    let is_tool = matches!(request.program, Program::Tool(_));
    let mut running = match link.exec(request).await {
        Ok(running) => running,
        Err(LinkError::Fault(fault)) => return Err(fault.message),
        Err(_) => return std::future::pending().await,
    };
    let mut printed = Vec::new();
    loop {
        match running.next().await {
            Some(ExecEvent::Output(Stream::Stdout, _)) if is_tool => {}
            Some(ExecEvent::Output(_, bytes)) => {
                printed.extend(bytes);
                printed.drain(..printed.len().saturating_sub(printed_bytes_max));
            }
            Some(ExecEvent::Exited { exit, .. }) => return Ok(Ran { exit, printed }),
            None => return std::future::pending().await,
        }
    }
}

fn how(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exits {code}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
        Exit::TimedOut => "does not end".to_owned(),
        Exit::Killed => "was killed".to_owned(),
    }
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
