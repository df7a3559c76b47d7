//! What this host is and has, as facts. Nothing is created, changed or started; what a fact means for a user is for
//! the face to say.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

/// The host's system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `uname -s`, such as `Linux`.
    pub system: String,
    /// `uname -m`, such as `x86_64`.
    pub architecture: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// Name of the distribution, where it says one.
    pub distribution: Option<String>,
    /// Its id and the ids it is like, such as `ubuntu debian`; tells which package manager to name.
    pub family: String,
    /// Processors this process may use.
    pub cpu_count: usize,
}

/// The host's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMemory {
    /// All of it, or what this process's cgroup may use if that is less.
    pub total_bytes: u64,
    /// What is left, as the kernel estimates it, or what the cgroup has left if that is less.
    pub available_bytes: u64,
    /// Whether a cgroup sets the limit.
    pub limited_by_cgroup: bool,
}

/// A directory of pyro's, or the place where it would be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// The directory.
    pub path: PathBuf,
    /// Whether it is there already.
    pub exists: bool,
    /// The nearest directory that is there: itself or a parent.
    pub nearest: PathBuf,
    /// Whether this process may write in `nearest`.
    pub writable: bool,
    /// Type of the filesystem, such as `ext4`.
    pub filesystem: String,
    /// Bytes that an ordinary user may still write.
    pub free_bytes: u64,
}

/// Looks at the system.
#[must_use]
pub fn platform() -> Platform {
    let uname = rustix::system::uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| os_release_field(&os_release, name);
    Platform {
        system: text(uname.sysname()),
        architecture: text(uname.machine()),
        kernel_release: text(uname.release()),
        distribution: field("PRETTY_NAME"),
        family: format!("{} {}", field("ID").unwrap_or_default(), field("ID_LIKE").unwrap_or_default())
            .trim()
            .to_owned(),
        cpu_count: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn os_release_field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// Looks at the memory; `None` where the kernel does not tell.
#[must_use]
pub fn memory() -> Option<HostMemory> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let mut memory = parse_meminfo(&meminfo)?;
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for (limit, used) in cgroup_limits(&cgroups, Path::new("/sys/fs/cgroup")) {
        if limit < memory.total_bytes {
            memory.total_bytes = limit;
            memory.limited_by_cgroup = true;
        }
        memory.available_bytes = memory.available_bytes.min(limit.saturating_sub(used));
    }
    Some(memory)
}

fn parse_meminfo(text: &str) -> Option<HostMemory> {
    let field = |name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(HostMemory {
        total_bytes: field("MemTotal")?,
        available_bytes: field("MemAvailable")?,
        limited_by_cgroup: false,
    })
}

/// Limit and use of every cgroup above this process that has a limit.
fn cgroup_limits(own_cgroups: &str, root: &Path) -> Vec<(u64, u64)> {
    let Some(own) = own_cgroups.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let group = root.join(own);
    group
        .ancestors()
        .take_while(|dir| dir.starts_with(root))
        .filter_map(|dir| Some((number(dir.join("memory.max"))?, number(dir.join("memory.current"))?)))
        .collect()
}

/// Looks at a directory, or at the place where it would be.
#[must_use]
pub fn directory(path: &Path) -> DirectoryFacts {
    let nearest = path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned();
    let filesystem_stat = statvfs(&nearest).ok();
    let read_only = filesystem_stat.as_ref().is_some_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let resolved = fs::canonicalize(&nearest).unwrap_or_else(|_| nearest.clone());
    DirectoryFacts {
        path: path.to_owned(),
        exists: nearest == path,
        writable: !read_only && access(&nearest, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
        filesystem: filesystem_of(&mounts, &resolved).unwrap_or_else(|| "unknown".to_owned()),
        free_bytes: filesystem_stat.as_ref().map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
        nearest,
    }
}

/// The type of the filesystem that `path` lies on, from the text of `mountinfo`: that of the longest mount point above
/// it; of two on the same place the later one hides the earlier.
fn filesystem_of(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mount_point = unescape(place.split(' ').nth(4)?);
        path.starts_with(&mount_point).then(|| (mount_point.len(), kind.split(' ').next().unwrap_or_default()))
    });
    mounts.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.to_owned())
}

/// Process ids of the children of this process: while no machine is wanted there must be none.
#[must_use]
pub fn child_processes() -> Vec<u32> {
    let me = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| parent_of(&stat) == Some(me)))
        .collect()
}

/// The parent's process id in the text of `stat`. The program's name may hold blanks and brackets.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Undoes the kernel's octal escapes of blanks and backslashes.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{cgroup_limits, directory, filesystem_of, os_release_field, parent_of, parse_meminfo};

    #[test]
    fn a_directory_that_is_not_there_is_judged_by_its_parent_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let facts = directory(&path);
        assert_eq!((facts.exists, facts.writable, facts.nearest.as_path()), (false, true, dir.path()));
        assert!(!path.exists());
        assert!(directory(dir.path()).exists);
    }

    #[test]
    fn the_innermost_mount_names_the_filesystem() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /home/a\\040b rw shared:1 - nfs4 host:/x rw\n\
                      3 1 0:6 / /tmp rw - tmpfs tmpfs rw\n4 3 0:7 / /tmp rw - xfs /dev/sdb rw";
        let check = |path: &str, kind: &str| assert_eq!(filesystem_of(mounts, Path::new(path)).as_deref(), Some(kind));
        check("/var", "ext4");
        check("/home/a b/c", "nfs4");
        check("/home/a", "ext4");
        check("/tmp/x", "xfs");
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let memory = parse_meminfo("MemTotal:       16 kB\nMemFree: 1 kB\nMemAvailable:   8 kB\n").unwrap();
        assert_eq!((memory.total_bytes, memory.available_bytes), (16_384, 8192));
        assert_eq!(parse_meminfo("MemTotal: many\n"), None);
    }

    #[test]
    fn every_cgroup_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("a/b");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        std::fs::write(group.join("memory.current"), "5\n").unwrap();
        std::fs::write(root.path().join("a/memory.max"), "100\n").unwrap();
        std::fs::write(root.path().join("a/memory.current"), "40\n").unwrap();
        assert_eq!(cgroup_limits("1:cpu:/x\n0::/a/b\n", root.path()), [(100, 40)]);
        assert_eq!(cgroup_limits("", root.path()), []);
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent_of("12 (a) b (c)) S 34 12 12"), Some(34));
        assert_eq!(parent_of("12 (a"), None);
    }

    #[test]
    fn distributions_quote_as_they_like() {
        let text = "ID=ubuntu\nID_LIKE=\"debian\"\nPRETTY_NAME='Some Linux'\n";
        let field = |name| os_release_field(text, name);
        assert_eq!(field("ID").as_deref(), Some("ubuntu"));
        assert_eq!(field("ID_LIKE").as_deref(), Some("debian"));
        assert_eq!(field("PRETTY_NAME").as_deref(), Some("Some Linux"));
        assert_eq!(field("VERSION"), None);
    }
}
