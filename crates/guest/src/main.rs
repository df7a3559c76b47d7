//! The pyro guest agent: the first process of every pyro machine.
//!
//! `init` takes the machine over from the kernel, `agent` serves the host, `lifecycle` knows what may be asked when; `exec`
//! runs commands, of which some are this program again, as a `tool`; `connections` reach the guest's ports. One loop (only what waits for the disk has a thread of its own, `quiesce`), no allocation that a peer could make unbounded, no tool of the guest needed.

mod agent;
mod cgroup;
mod channel;
mod command;
mod connections;
mod console;
mod devices;
mod events;
mod exec;
mod identity;
mod init;
mod leftovers;
mod lifecycle;
mod modules;
mod mount;
mod network;
mod quiesce;
mod shutdown;
mod spawn;
mod streams;
mod tool;

use std::ffi::OsString;
use std::process::ExitCode;

use pyro_wire::tool::FAILED_CODE;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::agent::Agent;
use crate::cgroup::Cgroups;
use crate::channel::{Channel, Kind};
use crate::exec::Execs;
use crate::lifecycle::{Ground, Lifecycle};
use crate::spawn::{Spawner, take_over_signals};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let [flag, words @ ..] = words.as_slice()
        && flag == tool::TOOL_FLAG
    {
        return be_tool(words);
    }
    let serves_stdin = words.first().is_some_and(|word| word == "--serve-stdin");
    if rustix::process::getpid().is_init() && !serves_stdin {
        init::run();
    }
    if !serves_stdin {
        console::say("this program is the first process of a pyro machine and of no use outside of one");
        return ExitCode::from(2);
    }
    match serve_stdin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Is a tool, for as long as this process lives.
fn be_tool(words: &[OsString]) -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        tool::tell_panic(info);
        #[expect(
            clippy::exit,
            clippy::disallowed_methods,
            reason = "a panic would end in a signal, which tells the host less"
        )]
        std::process::exit(FAILED_CODE.into());
    }));
    if tool::run(words) { ExitCode::SUCCESS } else { ExitCode::from(FAILED_CODE) }
}

/// Serves one host on the socket that is standard input, as a process among others: commands run in the file system as it is, nothing
/// is mounted and nobody else is touched. This is how the agent is tested without a machine.
fn serve_stdin() -> Result<(), Errno> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::stdio::dup2_stdin(rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)?;
    let children = take_over_signals()?;
    let execs = Execs::new(Cgroups::default(), Spawner::new(false)?)?;
    let channel = Channel::new(socket, Kind::Stream);
    Agent::new(channel, children, execs, Lifecycle::new(Ground::Process))?.run().map(drop)
}
