//! The files that are pyro's own in every Debian environment: where packages come from later, and how.

use super::super::ext4::{Attributes, Ext4Error, Formatter};
use super::slim;

const APT_SOURCES: &str = "\
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

const APT_CONFIGURATION: &str = "\
APT::Install-Recommends \"false\";
Acquire::Languages \"none\";
Acquire::Retries \"3\";
";

/// The machine is thrown away whole, so no installation in it needs to survive a power cut.
const DPKG_SPEED: &str = "force-unsafe-io\n";

/// Nothing starts services on its own account here: there is no service manager in the machine.
const POLICY_RC_D: &str = "#!/bin/sh\nexit 101\n";

/// Writes them.
pub(super) fn write(formatter: &mut Formatter, time_seconds: i64) -> Result<(), Ext4Error> {
    let slim_rules = slim::dpkg_configuration();
    let files: [(&str, u16, &str); 9] = [
        ("etc/apt/sources.list.d/debian.sources", 0o644, APT_SOURCES),
        ("etc/apt/apt.conf.d/90pyro", 0o644, APT_CONFIGURATION),
        ("etc/dpkg/dpkg.cfg.d/90pyro-slim", 0o644, &slim_rules),
        ("etc/dpkg/dpkg.cfg.d/90pyro-speed", 0o644, DPKG_SPEED),
        ("etc/default/locale", 0o644, "LANG=C.UTF-8\n"),
        ("etc/hostname", 0o644, "pyro\n"),
        ("etc/machine-id", 0o444, ""),
        ("etc/resolv.conf", 0o644, ""),
        ("usr/sbin/policy-rc.d", 0o755, POLICY_RC_D),
    ];
    for (path, mode, text) in files {
        put(formatter, path, Attributes::of_root(mode, time_seconds), text.as_bytes())?;
    }
    for directory in ["proc", "sys", "dev", "run", "workspace"] {
        if formatter.kind_at(directory.as_bytes())?.is_none() {
            formatter.add_directory(directory.as_bytes(), Attributes::of_root(0o755, time_seconds))?;
        }
    }
    Ok(())
}

/// Adds a file and the directories on its way; one that a package brought is replaced.
pub(super) fn put(
    formatter: &mut Formatter,
    path: &str,
    attributes: Attributes,
    bytes: &[u8],
) -> Result<(), Ext4Error> {
    for (end, _) in path.match_indices('/') {
        let parent = &path.as_bytes()[..end];
        if formatter.kind_at(parent)?.is_none() {
            formatter.add_directory(parent, Attributes::of_root(0o755, attributes.mtime_seconds))?;
        }
    }
    if formatter.kind_at(path.as_bytes())?.is_some() {
        formatter.remove(path.as_bytes())?;
    }
    formatter.add_file(path.as_bytes(), attributes, bytes.len() as u64, &mut &bytes[..])
}
