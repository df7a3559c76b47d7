//! pyro under a real KVM, on any machine: in an emulated host whose processor has AMD's virtualization.
//!
//! `make test-kvm` and `make check` run it, `make test` does not: it takes minutes, and needs the environment of
//! `kvm-host.toml`. It shows that things work, never how fast they are.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use vm_tests::tiny::TINY;
use vm_tests::{Home, Mirror, pyro_binary};

/// All that is checked takes six minutes on two quiet processors.
const LIMIT_SECONDS: u64 = 1200;

/// Unpacks what came on standard input and goes on with the script in it.
const BEGIN: &str = "mkdir /proof && cd /proof && tar -x && exec sh ./kvm-host.sh /proof";

#[test]
fn alone_pyro_works_under_a_real_kvm() {
    let tiny = Mirror::with_tiny_installed();
    let luggage = pack(&tiny.home);
    let host = Home::shared().with_config(&format!("catalog = \"{}/kvm-host.toml\"\n", env!("CARGO_MANIFEST_DIR")));
    let timeout = LIMIT_SECONDS.to_string();
    // Booted, not restored: a template of a machine of this size would be used by nothing else. One processor, because how QEMU
    // emulates AMD's virtualization does not bear two: such a host stood still now and then (decision 0019).
    let flags = ["--cold", "-i", "--vcpu-count", "1", "--mem-mib", "4096", "--timeout-seconds", &timeout];
    let outcome = host
        .pyro(&["run"])
        .args(&flags)
        .args(&["kvm-host", "--", "sh", "-c", BEGIN])
        .env("PYRO_ACCELERATOR", "tcg")
        .stdin(luggage)
        .limit(Duration::from_secs(LIMIT_SECONDS + 60))
        .finish();
    println!("{}", outcome.stdout_text());
    outcome.assert_code(0);
    assert!(outcome.stdout_text().contains(" checks passed, 0 failed\n"), "{outcome:?}");
    host.assert_nothing_left();
}

/// The program, an installed environment of the smallest system and its kernel, and the script, as a tar archive.
fn pack(user: &Home) -> Vec<u8> {
    let dir = user.path().join("luggage");
    let (config, environments) = (dir.join("config"), dir.join("cache/environments"));
    for dir in [&config, &environments] {
        std::fs::create_dir_all(dir).expect("our own directory");
    }
    let link = |from: &Path, name: &str| {
        std::os::unix::fs::symlink(from, dir.join(name)).expect("our own directory");
    };
    let kernel = Home::shared().kernel();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kvm-host.sh");
    link(&pyro_binary(), "pyro");
    link(&script, "kvm-host.sh");
    link(&kernel, "vmlinuz");
    link(&kernel.with_file_name("init"), "modules");
    link(&user.cache().join("environments").join(TINY), &format!("cache/environments/{TINY}"));
    // An archive that answers at once that it is not there: the host has no network to look for one in.
    let text = "[kernel]\nimage = \"/proof/vmlinuz\"\nmodules = \"/proof/modules\"\n\
                [debian]\nmirror = \"http://127.0.0.1:9/debian\"\n";
    std::fs::write(config.join("config.toml"), text).expect("our own directory");
    archive(&dir)
}

/// The directory as a tar archive: links in it followed, holes kept, and times to the nanosecond, by which pyro knows an image
/// that it need not read again.
#[expect(clippy::disallowed_methods, reason = "tar knows holes")]
fn archive(dir: &Path) -> Vec<u8> {
    let tar = Command::new("tar")
        .args(["-c", "--sparse", "--dereference", "--format=posix", "-C"])
        .arg(dir)
        .arg(".")
        .output();
    let tar = tar.expect("tar is installed");
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}
