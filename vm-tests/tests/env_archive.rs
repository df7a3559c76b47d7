//! `pyro env pull` from an archive that lies, breaks or goes away: a clear error, the right exit code, nothing left.

use std::time::Duration;

use rustix::process::Signal;
use vm_tests::archive::{Archive, Deb, SigningKey};
use vm_tests::http::{Fault, Server};
use vm_tests::{Home, Outcome, Pyro, Running};

/// The environment that is pulled: the one with the fewest packages.
const NAME: &str = "debian:12-base";

const CATALOG: &str = include_str!("../../crates/engine/src/environment/catalog.toml");

const IN_RELEASE: &str = "/debian/dists/bookworm/InRelease";

/// A user and the archive that is the only one this user knows.
struct Bench {
    home: Home,
    server: Server,
    archive: Archive,
}

impl Bench {
    /// An archive with a package of each name that the environment wants; none of them holds a file.
    fn new() -> Self {
        let names = wanted_packages();
        Self::of(names.iter().fold(Archive::new("bookworm"), |archive, name| archive.with(Deb::new(name, "1.0"))))
    }

    fn of(archive: Archive) -> Self {
        let server = Server::start();
        archive.serve(&server, "/debian");
        let home = Home::empty();
        let keyring = home.path().join("keyring.gpg");
        std::fs::write(&keyring, archive.key.keyring()).expect("our own directory");
        // A kernel that is there already keeps the archive's part to the packages.
        let config = format!(
            "kernel = \"{}\"\n[debian]\nmirror = \"{}/debian\"\nkeyring = \"{}\"\nsuites = \"release\"\n",
            Home::shared().kernel().display(),
            server.url(),
            keyring.display()
        );
        Self { home: home.with_config(&config), server, archive }
    }

    fn pull(&self) -> Pyro {
        self.home.pyro(&["env", "pull", NAME])
    }

    /// Pulls, and expects a refusal that mentions these words and leaves nothing.
    #[track_caller]
    fn check_refused(&self, parts: &[&str]) {
        let outcome = self.pull().finish();
        outcome.assert_refused(1, parts);
        self.check_nothing_installed(&outcome);
    }

    #[track_caller]
    fn check_nothing_installed(&self, outcome: &Outcome) {
        self.home.assert_nothing_left();
        let installed = std::fs::read_dir(self.home.cache().join("environments")).map_or(0, Iterator::count);
        assert_eq!(installed, 0, "half an environment is left after {outcome:?}");
    }

    /// Starts a pull and waits until the archive was asked for this path, which it then does not get.
    #[track_caller]
    fn start_and_stall_at(&self, path: &str) -> Running {
        self.server.fail(path, Fault::Stall(Duration::from_secs(60)));
        let mut pull = self.pull().start();
        while self.server.requests_for(path).is_empty() {
            pull.assert_running();
            std::thread::sleep(Duration::from_millis(20));
        }
        pull
    }

    /// Where the archive keeps the package of this name.
    fn pool_path(&self, name: &str) -> String {
        let deb = self.archive.debs.iter().find(|deb| deb.name() == name).expect("it is in the archive");
        format!("/debian/{}", deb.pool_path())
    }
}

/// The packages of the smallest environment, from the catalog's own text.
fn wanted_packages() -> Vec<&'static str> {
    let row =
        CATALOG.split("[[environment]]").find(|row| row.contains(&format!("name = \"{NAME}\""))).expect("its row");
    let list = row.split("packages = [").nth(1).and_then(|rest| rest.split(']').next()).expect("its packages");
    list.split('"').skip(1).step_by(2).collect()
}

#[test]
fn a_tampered_release_is_refused() {
    let bench = Bench::new();
    let text = String::from_utf8(bench.archive.files()["/dists/bookworm/InRelease"].clone()).expect("it is text");
    bench.server.put(IN_RELEASE, text.replace("Label: Test", "Label: Best"));
    bench.check_refused(&["InRelease", "trusted"]);
}

#[test]
fn a_release_of_a_stranger_is_refused() {
    let bench = Bench::new();
    std::fs::write(bench.home.path().join("keyring.gpg"), SigningKey::new().keyring()).expect("our own directory");
    bench.check_refused(&["InRelease"]);
}

#[test]
fn an_outdated_release_is_refused() {
    let mut archive = Bench::new().archive;
    archive.date -= 43_200;
    archive.valid_until = Some(archive.date + 3600);
    Bench::of(archive).check_refused(&["InRelease", "valid"]);
}

#[test]
fn a_tampered_list_is_refused() {
    let mut archive = Bench::new().archive;
    archive.by_hash = false;
    let bench = Bench::of(archive);
    let path = format!("/debian/dists/bookworm/{}", bench.archive.list_path());
    let mut list = bench.archive.files()[path.trim_start_matches("/debian")].clone();
    let middle = list.len() / 2;
    list[middle] ^= 1;
    bench.server.put(&path, list);
    bench.check_refused(&["Packages"]);
}

#[test]
fn a_tampered_package_is_refused() {
    let bench = Bench::new();
    let path = bench.pool_path("kmod");
    let other = Deb::new("kmod", "1.0").script("postinst", "#!/bin/sh\nexit 0\n").build();
    bench.server.put(&path, other.clone());
    bench.check_refused(&["kmod"]);
    // Whole and half downloads of other packages may stay: the next pull goes on from them.
    for entry in std::fs::read_dir(bench.home.cache().join("downloads")).into_iter().flatten().flatten() {
        let kept = std::fs::read(entry.path()).expect("our own file");
        assert!(kept != other, "a bad file is kept: {}", entry.path().display());
    }
}

#[test]
fn a_missing_package_is_named_with_who_wants_it() {
    let mut archive = Bench::new().archive;
    archive.debs.retain(|deb| deb.name() != "kmod");
    archive.debs.push(Deb::new("kmod", "1.0").field("Depends", "libabsent (>= 2)"));
    Bench::of(archive).check_refused(&["libabsent", "kmod"]);
}

#[test]
fn an_archive_that_is_away_is_one_clear_error() {
    let bench = Bench::new();
    bench.server.refuse(true);
    bench.check_refused(&["reached"]);
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let bench = Bench::new();
    let path = bench.pool_path("kmod");
    bench.server.fail(&path, Fault::CutAfter(200));
    let outcome = bench.pull().finish();
    // These packages hold no system, so it fails later; but not for want of this file.
    outcome.assert_code(1);
    let requests = bench.server.requests_for(&path);
    assert!(requests.len() > 1 && requests[1].range.is_some(), "it is not resumed: {requests:?} {outcome:?}");
}

#[test]
fn a_pull_that_is_killed_goes_on_from_what_it_has() {
    let bench = Bench::new();
    let slow = bench.pool_path("procps");
    let pull = bench.start_and_stall_at(&slow);
    std::thread::sleep(Duration::from_millis(500));
    pull.signal(Signal::KILL);
    let outcome = pull.wait();
    let installed = std::fs::read_dir(bench.home.cache().join("environments")).map_or(0, Iterator::count);
    assert_eq!(installed, 0, "half an environment is left after {outcome:?}");

    bench.pull().finish().assert_code(1);
    let again = bench.server.requests_for(&bench.pool_path("apt"));
    assert_eq!(again.len(), 1, "what was downloaded is downloaded again: {again:?}");
    bench.home.assert_nothing_left();
}

#[test]
fn an_interrupted_pull_says_so_and_leaves_nothing() {
    let bench = Bench::new();
    let slow = bench.pool_path("procps");
    let pull = bench.start_and_stall_at(&slow);
    pull.signal(Signal::INT);
    let outcome = pull.wait();
    outcome.assert_code(130);
    bench.check_nothing_installed(&outcome);
}

#[test]
fn a_failure_can_be_read_by_a_program() {
    let bench = Bench::new();
    bench.server.refuse(true);
    let outcome = bench.home.pyro(&["env", "pull", "--json", NAME]).finish();
    outcome.assert_code(1);
    let answer = outcome.json();
    assert_eq!(answer["ok"], false, "{outcome:?}");
    for field in ["code", "message", "hint"] {
        assert!(answer["error"][field].is_string(), "no {field} in {outcome:?}");
    }
}
