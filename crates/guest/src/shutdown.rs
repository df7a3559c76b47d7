//! The orderly end: no process left, everything on the disks, the disks clean.

use std::time::{Duration, Instant};

use pyro_wire::Fault;
use pyro_wire::lifecycle::RootKind;
use rustix::io::Errno;
use rustix::process::WaitOptions;

use crate::mount::Root;
use crate::spawn::{Target, send_signal};

/// How long processes have to end by themselves.
const GRACE: Duration = Duration::from_millis(500);

/// How long the kernel has to take away what was killed. Only a process stuck in a device takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(5);

const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Ends every process but ours: asks, waits, kills. Takes no time when there is none.
pub(crate) fn end_processes() {
    // Shells ignore TERM and heed HUP; who is stopped must go on to hear either.
    for number in [libc::SIGTERM, libc::SIGHUP, libc::SIGCONT] {
        send_signal(Target::Everyone, number);
    }
    if !all_gone_within(GRACE) {
        send_signal(Target::Everyone, libc::SIGKILL);
        all_gone_within(KILL_LIMIT);
    }
}

fn all_gone_within(limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            // Orphans become our children, so having none means that nobody is left.
            Err(Errno::CHILD) => return true,
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => {
                if Instant::now() >= deadline {
                    return false;
                }
                std::thread::sleep(LOOK_INTERVAL);
            }
        }
    }
}

/// Writes everything to the disks and leaves them clean.
pub(crate) fn seal(root: Root) -> Result<(), Fault> {
    rustix::fs::sync();
    if root.kind() == RootKind::Writable {
        root.discard_unused()?;
    }
    root.make_read_only()
}
