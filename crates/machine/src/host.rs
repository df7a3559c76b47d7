//! What the host has for machines: the hypervisor's program and the processor. `/dev/kvm` is in [`super::kvm`].

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The oldest QEMU that has all that is used of it.
pub const QEMU_OLDEST: (u32, u32) = (7, 2);

/// A program that only tells its version does so within this time.
const TELL_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of `/proc/cpuinfo` that hold the first processor's entry.
const CPUINFO_BYTES: u64 = 16 << 10;

/// QEMU as it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuFacts {
    /// Where it is.
    pub path: PathBuf,
    /// The version as it tells it, such as `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`.
    pub version: String,
    /// Its first two numbers.
    pub release: (u32, u32),
    /// Whether it was built with its system call filter; machines are not started without.
    pub sandbox: bool,
}

/// Why QEMU cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QemuProblem {
    /// It is not there.
    #[error("{program} is not installed")]
    NotFound {
        /// What was looked for.
        program: String,
    },
    /// It is there and does not run.
    #[error("{} does not tell its version: {reason}", path.display())]
    Silent {
        /// Where it is.
        path: PathBuf,
        /// What it did instead.
        reason: String,
    },
}

/// The host's processor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuFacts {
    /// Its model, as it calls itself.
    pub model: String,
    /// `vmx` or `svm`, if it can run virtual machines.
    pub virtualization: Option<&'static str>,
    /// Whether it is a virtual machine's processor itself.
    pub virtual_machine: bool,
}

/// Asks QEMU for its version and features. Starts it twice, so it is for `doctor`, not for a warm start.
///
/// # Errors
/// See [`QemuProblem`].
pub async fn qemu(program: &Path, path_dirs: &[PathBuf]) -> Result<QemuFacts, QemuProblem> {
    let path =
        locate(program, path_dirs).ok_or_else(|| QemuProblem::NotFound { program: program.display().to_string() })?;
    let silent = |reason| QemuProblem::Silent { path: path.clone(), reason };
    let text = tell(&path, &["--version"]).await.map_err(silent)?;
    let (version, release) =
        parse_version(&text).ok_or_else(|| silent(super::console::clean(first_line(&text).as_bytes())))?;
    // Options are taken in their order, and one built without the filter ends at the first.
    let sandbox = tell(&path, &["-sandbox", "on", "--version"]).await.is_ok();
    Ok(QemuFacts { sandbox, path, version, release })
}

/// Looks at the processor.
#[must_use]
pub fn cpu() -> CpuFacts {
    first_cpu().map(|text| parse_cpu(&text)).unwrap_or_default()
}

/// Whether this kernel can confine a hypervisor to its own files (Landlock). Where it cannot, the other layers remain.
#[must_use]
pub fn confines_files() -> bool {
    super::jail::Jail::confines_files()
}

/// Finds a program: a path as it is, a bare name in `path_dirs`.
pub(super) fn locate(program: &Path, path_dirs: &[PathBuf]) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return is_program(program).then(|| program.to_owned());
    }
    path_dirs.iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(program)).find(|path| is_program(path))
}

/// The first processor's entry in `/proc/cpuinfo`. One is enough, and reading all of a large host's takes long.
pub(super) fn first_cpu() -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open("/proc/cpuinfo")?.take(CPUINFO_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.split("\n\n").next().unwrap_or_default().to_owned())
}

async fn tell(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = super::process::quiet_command(program, arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(TELL_LIMIT, output).await {
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => {
            let words = super::console::clean(&output.stderr);
            Err(format!("it ended with {}: {}", output.status, first_line(&words)))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it said nothing within {} s", TELL_LIMIT.as_secs())),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn parse_version(text: &str) -> Option<(String, (u32, u32))> {
    let version = first_line(text).strip_prefix("QEMU emulator version ")?;
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    let release = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((super::console::clean(version.as_bytes()), release))
}

fn parse_cpu(text: &str) -> CpuFacts {
    let field = |name: &str| {
        text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name).map(|(_, value)| value)
    };
    let flags: Vec<&str> = field("flags").unwrap_or_default().split_whitespace().collect();
    CpuFacts {
        model: field("model name").unwrap_or_default().trim().to_owned(),
        virtualization: ["vmx", "svm"].into_iter().find(|flag| flags.contains(flag)),
        virtual_machine: flags.contains(&"hypervisor"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{locate, parse_cpu, parse_version};

    #[test]
    fn versions_of_all_builders_are_read() {
        let check = |text: &str, expected| assert_eq!(parse_version(text).map(|(_, release)| release), expected);
        check("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) …\n", Some((7, 2)));
        check("QEMU emulator version 10.0.50 (v10.0.0-1-g123)\n", Some((10, 0)));
        check("QEMU emulator version 9.1.0\n", Some((9, 1)));
        check("something else 1.2\n", None);
        check("", None);
    }

    #[test]
    fn a_processor_tells_what_it_can() {
        let facts = parse_cpu("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu svm hypervisor\n");
        assert_eq!(
            (facts.model.as_str(), facts.virtualization, facts.virtual_machine),
            ("AMD EPYC", Some("svm"), true)
        );
        assert_eq!(parse_cpu("").virtualization, None);
    }

    #[test]
    fn a_program_is_a_path_or_is_looked_up() {
        let dirs =
            [PathBuf::from("relative"), PathBuf::from("/nowhere"), PathBuf::from("/bin"), PathBuf::from("/usr/bin")];
        assert!(locate(Path::new("sh"), &dirs).is_some_and(|path| path.is_absolute()));
        assert!(locate(Path::new("/bin/sh"), &[]).is_some());
        assert_eq!(locate(Path::new("/etc/passwd"), &dirs), None);
        assert_eq!(locate(Path::new("no-such-program"), &dirs), None);
    }
}
