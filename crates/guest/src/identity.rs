//! What makes a machine one of a kind: random numbers, the clock, its names.
//!
//! Machines restored from one template are copies of each other until this has run. The kernel's boot id is not touched: it is
//! drawn when it is first read, and nothing reads it before.

use std::io::Write;
use std::path::Path;

use pyro_wire::lifecycle::{RootKind, SetUp};
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::init;
use crate::mount::Root;

/// Longer files are not `/etc/hosts` of anyone.
const HOSTS_BYTES_MAX: u64 = 1024 * 1024;

/// What a machine without a network says where others name their name servers.
const NO_NAME_SERVER: &str = "# No name server: this machine has no network.\n";

/// The address by which a Debian machine knows its own name.
const OWN_ADDRESS: &str = "127.0.1.1";

/// Refuses a request whose values no machine could take.
pub(crate) fn check(request: &SetUp) -> Result<(), Fault> {
    let invalid = |message: &str| Err(Fault::new(FaultKind::InvalidArgument, message));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if !(1..=64).contains(&request.hostname.len()) || !request.hostname.bytes().all(is_name) {
        return invalid("a host name is 1 to 64 letters, digits, hyphens and dots");
    }
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if request.machine_id.len() != 32 || !request.machine_id.bytes().all(is_hex) {
        return invalid("a machine id is 32 lower-case hexadecimal digits");
    }
    if !(32..=512).contains(&request.entropy.len()) {
        return invalid("entropy is 32 to 512 bytes");
    }
    Ok(())
}

/// Mixes the host's random bytes into the kernel's generator and makes it draw from them at once.
pub(crate) fn renew_entropy(bytes: &[u8]) -> Result<(), Fault> {
    init::add_entropy(bytes)
        .map_err(|error| Fault::new(FaultKind::Io, format!("cannot renew the random numbers: {error}")))
}

/// Sets the wall clock.
pub(crate) fn set_clock(unix_ns: u64) -> Result<(), Fault> {
    const SECOND_NS: u64 = 1_000_000_000;
    let time = i64::try_from(unix_ns / SECOND_NS).ok().zip(i64::try_from(unix_ns % SECOND_NS).ok());
    let set = time
        .ok_or(Errno::INVAL)
        .and_then(|(tv_sec, tv_nsec)| clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec }));
    set.map_err(|error| Fault::new(FaultKind::Io, format!("cannot set the clock: {error}")))
}

/// Names the machine, in the kernel and in the files of its root. A writable root is an environment in the making: it
/// gets no file, so that its machines do not inherit one.
pub(crate) fn set_names(request: &SetUp, root: &Root) -> Result<(), Fault> {
    rustix::system::sethostname(request.hostname.as_bytes())
        .map_err(|error| Fault::new(FaultKind::Io, format!("cannot set the host name: {error}")))?;
    if root.kind() == RootKind::Writable {
        return Ok(());
    }
    let etc = Path::new("/etc");
    let result = std::fs::create_dir_all(etc)
        .and_then(|()| replace(&etc.join("hostname"), &format!("{}\n", request.hostname), 0o644))
        .and_then(|()| replace(&etc.join("machine-id"), &format!("{}\n", request.machine_id), 0o444))
        .and_then(|()| {
            let path = etc.join("hosts");
            replace(&path, &hosts(&read_text(&path), &request.hostname), 0o644)
        })
        .and_then(|()| {
            let path = etc.join("resolv.conf");
            match &request.network {
                Some(network) => replace(&path, &format!("nameserver {}\n", network.name_server), 0o644),
                None if std::fs::symlink_metadata(&path).is_err() => replace(&path, NO_NAME_SERVER, 0o644),
                None => Ok(()),
            }
        });
    result.map_err(|error| Fault::new(FaultKind::Io, format!("cannot write the machine's names to /etc: {error}")))
}

/// `text` with the machine's own name in it, once.
fn hosts(text: &str, hostname: &str) -> String {
    let address = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
    let mut lines: Vec<String> = Vec::new();
    for (wanted, line) in [("127.0.0.1", "127.0.0.1\tlocalhost"), ("::1", "::1\tlocalhost ip6-localhost ip6-loopback")]
    {
        if !text.lines().any(|line| address(line).as_deref() == Some(wanted)) {
            lines.push(line.to_owned());
        }
    }
    let kept = text.lines().filter(|line| address(line).as_deref() != Some(OWN_ADDRESS)).map(str::to_owned);
    lines.extend(kept);
    lines.push(format!("{OWN_ADDRESS}\t{hostname}"));
    lines.join("\n") + "\n"
}

/// The text of a regular file; nothing of anything else.
fn read_text(path: &Path) -> String {
    let is_text = |data: &std::fs::Metadata| data.is_file() && data.len() <= HOSTS_BYTES_MAX;
    if !std::fs::metadata(path).is_ok_and(|data| is_text(&data)) {
        return String::new();
    }
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Puts a new file in the place of whatever is there, which may be a link or a pipe that the last user of the disk left.
fn replace(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let fresh = path.with_extension("pyro-new");
    match rustix::fs::unlink(&fresh) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::open(&fresh, flags, Mode::from_raw_mode(mode))?);
    file.write_all(text.as_bytes())?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::hosts;

    #[track_caller]
    fn check_hosts(before: &str, expected: &str) {
        let after = hosts(before, "m1");
        assert_eq!(after, expected);
        assert_eq!(hosts(&after, "m1"), expected, "a second time changes nothing");
    }

    #[test]
    fn the_own_name_is_in_hosts_once() {
        check_hosts("", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tm1\n");
        check_hosts(
            "127.0.0.1 localhost\n127.0.1.1 template\n::1 localhost\n10.0.0.1 mine\n",
            "127.0.0.1 localhost\n::1 localhost\n10.0.0.1 mine\n127.0.1.1\tm1\n",
        );
    }
}
