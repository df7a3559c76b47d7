//! `pyro env`: the life of an environment, from the list to the prune, with one that is small enough to be installed here.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid};
use vm_tests::archive::{Archive, Deb};
use vm_tests::http::Fault;
use vm_tests::tiny::{self, TINY};
use vm_tests::{Home, Mirror, Outcome};

/// Programs of the host that a test needs to give pyro a disk of its own.
const OWN_DISK: [&str; 2] = ["unshare", "mount"];

fn env(mirror: &Mirror, words: &[&str]) -> Outcome {
    mirror.home.pyro(&["env"]).args(words).finish()
}

/// What the list says of the small environment.
#[track_caller]
fn state(mirror: &Mirror) -> String {
    let list = env(mirror, &["list", "--json"]);
    list.assert_code(0);
    let rows = list.json()["environments"].as_array().expect("a list").clone();
    let row = rows.iter().find(|row| row["name"] == TINY).expect("its row");
    row["state"].as_str().expect("a word").to_owned()
}

fn rootfs(mirror: &Mirror) -> PathBuf {
    mirror.home.cache().join("environments").join(TINY).join("rootfs.ext4")
}

/// Changes one byte of an installed image.
fn spoil(mirror: &Mirror) {
    let path = rootfs(mirror);
    let image = std::fs::File::options().write(true).open(path).expect("root, or the owner, may write");
    image.write_all_at(b"x", 5_000_000).expect("our own file");
}

/// A byte of an image can be changed by its owner only if that is root: it is sealed.
fn unseal(mirror: &Mirror) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(rootfs(mirror), mode).expect("our own file");
}

#[test]
fn an_environment_is_listed_pulled_inspected_run_and_removed() {
    let mirror = Mirror::tiny();
    assert_eq!(state(&mirror), "available");
    let list = env(&mirror, &["list"]);
    for name in ["debian:12", "debian:12-base", "debian:12-build", TINY] {
        assert!(list.stdout_text().lines().any(|line| line.starts_with(name)), "{name} is missing in {list:?}");
    }
    env(&mirror, &["inspect", TINY]).assert_refused(1, &["not installed", "pyro env pull tiny"]);

    let pulled = env(&mirror, &["pull", "--json", TINY]);
    pulled.assert_code(0);
    assert_eq!(pulled.json()["built"], true, "{pulled:?}");
    assert_eq!(state(&mirror), "installed");
    let again = env(&mirror, &["pull", "--json", TINY]);
    assert_eq!(again.json()["built"], false, "{again:?}");
    assert_eq!(again.json()["digest"], pulled.json()["digest"]);

    let details = env(&mirror, &["inspect", "--json", TINY]).assert_code(0).json();
    assert_eq!(details["packages"][0]["name"], TINY, "{details}");
    assert_eq!(details["packages"][0]["sha256"].as_str().map(str::len), Some(64), "{details}");
    mirror.run_tiny(&[], &["sh", "-c", "echo up; exit 3"]).finish().assert_code(3).assert_stdout("up\n");

    env(&mirror, &["remove", TINY]).assert_code(0);
    assert_eq!(state(&mirror), "available");
    env(&mirror, &["remove", TINY]).assert_refused(1, &["not installed"]);
    mirror.run_tiny(&[], &["true"]).finish().assert_refused(125, &["pyro env pull tiny"]);
    mirror.home.assert_nothing_left();
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let home = Home::empty();
    for verb in ["pull", "inspect", "remove"] {
        home.pyro(&["env", verb, "debian:13"]).finish().assert_refused(1, &["debian:13", "debian:12-base"]);
        let outcome = home.pyro(&["env", verb, "--json", "debian:13"]).finish();
        outcome.assert_code(1);
        assert!(outcome.json()["error"]["hint"].as_str().is_some_and(|hint| hint.contains("debian:12")), "{outcome:?}");
    }
    home.assert_nothing_left();
}

#[test]
fn with_everything_fetched_a_pull_needs_no_network() {
    let mirror = Mirror::with_tiny_installed();
    env(&mirror, &["prune", "--all"]).assert_code(0);
    mirror.server.refuse(true);
    env(&mirror, &["pull", TINY]).assert_code(0);
    let again = env(&mirror, &["pull", "--force", "--json", TINY]);
    again.assert_code(0);
    assert_eq!(again.json()["built"], true, "{again:?}");
    mirror.run_tiny(&[], &["echo", "up"]).finish().assert_code(0).assert_stdout("up\n");
}

#[test]
fn a_damaged_image_is_found_and_healed() {
    let mirror = Mirror::with_tiny_installed();
    unseal(&mirror);
    spoil(&mirror);
    let advice = "pyro env pull --force tiny";
    assert_eq!(state(&mirror), "damaged");
    mirror.run_tiny(&[], &["true"]).finish().assert_refused(125, &["damaged", advice]);
    env(&mirror, &["pull", TINY]).assert_refused(1, &["damaged", advice]);
    let doctor = mirror.home.pyro(&["doctor"]).finish();
    doctor.assert_code(1);
    assert!(doctor.stdout_text().contains(advice), "{doctor:?}");

    env(&mirror, &["pull", "--force", TINY]).assert_code(0);
    assert_eq!(state(&mirror), "installed");
    let image = std::fs::File::options().write(true).open(rootfs(&mirror)).expect("root may write");
    image.set_len(1 << 20).expect("our own file");
    env(&mirror, &["list"]).assert_code(0);
    assert_eq!(state(&mirror), "damaged");
    // What cannot be used can be removed.
    env(&mirror, &["remove", TINY]).assert_code(0);
    mirror.home.assert_nothing_left();
}

#[test]
fn a_prune_says_what_it_would_remove_and_leaves_what_is_needed() {
    let mirror = Mirror::with_tiny_installed();
    let cache = mirror.home.cache();
    let left = cache.join("staging/environment-1-0");
    std::fs::create_dir_all(&left).expect("our own directory");
    std::fs::write(left.join("rootfs.ext4"), vec![0; 1 << 20]).expect("our own directory");
    let old = cache.join("downloads").join("0".repeat(64));
    std::fs::write(&old, "an old package").expect("our own directory");
    let templates = || std::fs::read_dir(cache.join("templates")).map_or(0, Iterator::count);
    assert_eq!(templates(), 2, "a pull makes the first templates: for a run, and for a workspace");

    let dry = env(&mirror, &["prune", "--dry-run", "--all", "--json"]);
    dry.assert_code(0);
    let kinds: Vec<String> =
        dry.json()["removed"].as_array().expect("a list").iter().map(|row| row["kind"].to_string()).collect();
    for kind in ["staging", "download", "template"] {
        assert!(kinds.contains(&format!("\"{kind}\"")), "{dry:?}");
    }
    assert!(left.exists() && old.exists() && templates() == 2, "a dry run removed something");

    env(&mirror, &["prune"]).assert_code(0);
    assert!(!left.exists() && old.exists() && templates() == 2, "{:?}", mirror.home.leftovers());
    mirror.run_tiny(&[], &["true"]).finish().assert_code(0);

    let mut running = mirror.run_tiny(&["--timeout-seconds", "600"], &["sh", "-c", "echo up; sleep 500"]).start();
    running.wait_for_stdout("up\n");
    env(&mirror, &["prune", "--all"]).assert_code(0);
    assert!(!old.exists() && templates() == 1, "the template of a running machine is in use");
    env(&mirror, &["remove", TINY]).assert_refused(1, &["in use"]);
    env(&mirror, &["pull", "--force", TINY]).assert_refused(1, &["in use"]);
    running.signal(Signal::TERM);
    drop(running.wait());
    env(&mirror, &["prune", "--all"]).assert_code(0);
    assert_eq!(templates(), 0);
    mirror.run_tiny(&[], &["echo", "again"]).finish().assert_code(0).assert_stdout("again\n");
    mirror.home.assert_nothing_left();
}

#[test]
fn of_two_pulls_at_once_one_waits_and_finds_it_made() {
    let mirror = Mirror::tiny();
    let path = mirror.pool_path(TINY);
    mirror.server.fail(&path, Fault::Stall(Duration::from_secs(5)));
    let mut first = mirror.home.pyro(&["env", "pull", "--json", TINY]).start();
    while mirror.server.requests_for(&path).is_empty() {
        first.assert_running();
        std::thread::sleep(Duration::from_millis(20));
    }
    env(&mirror, &["prune"]).assert_refused(1, &[&first.pid().to_string()]);
    let second = mirror.home.pyro(&["env", "pull", "--json", TINY]).start();
    let (first, second) = (first.wait(), second.wait());
    first.assert_code(0);
    second.assert_code(0).assert_stderr_has("waiting");
    assert_eq!((&first.json()["built"], &second.json()["built"]), (&true.into(), &false.into()));
    assert_eq!(mirror.server.requests_for(&path).len(), 1, "it was fetched twice");
    mirror.home.assert_nothing_left();
}

#[test]
fn a_pull_that_waits_can_be_interrupted() {
    let mirror = Mirror::tiny();
    let first = mirror.start_and_stall_at(TINY, &mirror.pool_path(TINY));
    let mut second = mirror.pull(TINY).start();
    let deadline = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < deadline {
        second.assert_running();
        std::thread::sleep(Duration::from_millis(50));
    }
    second.signal(Signal::INT);
    second.wait().assert_code(130);
    first.signal(Signal::INT);
    let first = first.wait();
    first.assert_code(130);
    mirror.assert_nothing_installed(&first);
}

#[test]
fn a_shortcut_that_does_not_fit_is_done_without() {
    // Content with everything but what stands in for the script of this package.
    let dpkg = "#!/bin/sh\ngrep -q original /var/lib/dpkg/info/tzdata.postinst\n";
    let tzdata = || Deb::new("tzdata", "1").field("Essential", "yes").script("postinst", "#!/bin/sh\n# original\n");
    let archive = |dpkg: &str| {
        let fussy = Deb::new("fussy", "1").field("Essential", "yes").field("Replaces", TINY);
        let fussy = fussy.file("usr/bin/dpkg", 0o755, dpkg);
        Archive::new("bookworm").with(tiny::package()).with(tzdata()).with(fussy)
    };
    let mirror = Mirror::of(archive(dpkg));
    mirror.pull(TINY).finish().assert_code(0);
    let kept = mirror.run_tiny(&[], &["cat", "/var/lib/dpkg/info/tzdata.postinst"]).finish();
    kept.assert_code(0).assert_stdout("#!/bin/sh\n# original\n");

    let mirror = Mirror::of(archive("#!/bin/sh\necho dpkg is never content\nexit 1\n"));
    let outcome = mirror.pull(TINY).finish();
    outcome.assert_code(1).assert_stderr_has("dpkg is never content").assert_stderr_has("without any");
    mirror.assert_nothing_installed(&outcome);
}

#[test]
fn a_disk_that_is_too_small_is_told_with_the_figures() {
    let Some((mirror, outcome)) = pull_on_a_disk_of(24, "") else { return };
    outcome.assert_refused(1, &["needs", "free", "PYRO_CACHE_DIR"]);
    mirror.home.assert_nothing_left();
}

#[test]
fn a_disk_that_fills_up_is_told() {
    // What another program takes of it while the package is on its way.
    let filler = "(while ! ls \"$1\"/downloads/*.part; do sleep 0.1; done; dd if=/dev/zero of=\"$1\"/filler bs=1M) \
                  >/dev/null 2>&1 &";
    let Some((mirror, outcome)) = pull_on_a_disk_of(900, filler) else { return };
    outcome.assert_refused(1, &["full", "PYRO_CACHE_DIR"]);
    mirror.home.assert_nothing_left();
}

/// Pulls into a cache that is a disk of its own, of this size, after the `prelude` of a shell script (which has the cache as
/// `$1`). `None`, with the reason told, where this test may not mount one. Says so on standard error when something of
/// the pull is left on that disk.
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
fn pull_on_a_disk_of(mib: u32, prelude: &str) -> Option<(Mirror, Outcome)> {
    let lacks = OWN_DISK.iter().find(|program| !on_path(program));
    if !geteuid().is_root() || lacks.is_some() {
        println!("skipped: only root can mount a small disk; {lacks:?}");
        return None;
    }
    let mirror = Mirror::tiny();
    mirror.server.fail(&mirror.pool_path(TINY), Fault::Stall(Duration::from_secs(4)));
    let cache = mirror.home.cache();
    std::fs::create_dir_all(cache).expect("our own directory");
    let script = format!(
        "cache=$1; shift; mount -t tmpfs -o size={mib}m none \"$cache\" || exit 99; set -- \"$cache\" \"$@\"; {prelude}\n\
         shift; \"$@\"; code=$?; find \"$cache/staging\" \"$cache/environments\" -type f 2>/dev/null >&2; exit $code"
    );
    let cache = cache.to_string_lossy().into_owned();
    let through = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh", &cache];
    let outcome = mirror.pull(TINY).through(&through).finish();
    assert!(outcome.code != Some(99), "the small disk is not mounted: {outcome:?}");
    Some((mirror, outcome))
}

fn on_path(program: &str) -> bool {
    ["/bin", "/usr/bin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(program).is_file())
}
