//! `pyro env pull` from an archive that lies, breaks or goes away: a clear error, the right exit code, nothing left.

use std::time::Duration;

use rustix::process::Signal;
use vm_tests::Mirror;
use vm_tests::archive::{Archive, Deb, SigningKey};
use vm_tests::http::Fault;

/// The environment that is pulled: the one with the fewest packages.
const NAME: &str = "debian:12-base";

const CATALOG: &str = include_str!("../../crates/environment/src/catalog.toml");

const IN_RELEASE: &str = "/debian/dists/bookworm/InRelease";

/// A user of an archive with a package of each name that the environment wants; none of them holds a file.
fn empty_packages() -> Mirror {
    let names = wanted_packages();
    Mirror::of(names.iter().fold(Archive::new("bookworm"), |archive, name| archive.with(Deb::new(name, "1.0"))))
}

/// Pulls, and expects a refusal that mentions these words and leaves nothing.
#[track_caller]
fn check_refused(mirror: &Mirror, parts: &[&str]) {
    let outcome = mirror.pull(NAME).finish();
    outcome.assert_refused(1, parts);
    mirror.assert_nothing_installed(&outcome);
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
    let mirror = empty_packages();
    let text = String::from_utf8(mirror.archive.files()["/dists/bookworm/InRelease"].clone()).expect("it is text");
    mirror.server.put(IN_RELEASE, text.replace("Label: Test", "Label: Best"));
    check_refused(&mirror, &["InRelease", "trusted"]);
}

#[test]
fn a_release_of_a_stranger_is_refused() {
    let mirror = empty_packages();
    std::fs::write(mirror.home.path().join("keyring.gpg"), SigningKey::new().keyring()).expect("our own directory");
    check_refused(&mirror, &["InRelease"]);
}

#[test]
fn an_outdated_release_is_refused() {
    let mut archive = empty_packages().archive;
    archive.date -= 43_200;
    archive.valid_until = Some(archive.date + 3600);
    check_refused(&Mirror::of(archive), &["InRelease", "valid"]);
}

#[test]
fn a_tampered_list_is_refused() {
    let mut archive = empty_packages().archive;
    archive.by_hash = false;
    let mirror = Mirror::of(archive);
    let path = format!("/debian/dists/bookworm/{}", mirror.archive.list_path());
    let mut list = mirror.archive.files()[path.trim_start_matches("/debian")].clone();
    let middle = list.len() / 2;
    list[middle] ^= 1;
    mirror.server.put(&path, list);
    check_refused(&mirror, &["Packages"]);
}

#[test]
fn a_tampered_package_is_refused() {
    let mirror = empty_packages();
    let path = mirror.pool_path("kmod");
    let other = Deb::new("kmod", "1.0").script("postinst", "#!/bin/sh\nexit 0\n").build();
    mirror.server.put(&path, other.clone());
    check_refused(&mirror, &["kmod"]);
    // Whole and half downloads of other packages may stay: the next pull goes on from them.
    for entry in std::fs::read_dir(mirror.home.cache().join("downloads")).into_iter().flatten().flatten() {
        let kept = std::fs::read(entry.path()).expect("our own file");
        assert!(kept != other, "a bad file is kept: {}", entry.path().display());
    }
}

#[test]
fn a_missing_package_is_named_with_who_wants_it() {
    let mut archive = empty_packages().archive;
    archive.debs.retain(|deb| deb.name() != "kmod");
    archive.debs.push(Deb::new("kmod", "1.0").field("Depends", "libabsent (>= 2)"));
    check_refused(&Mirror::of(archive), &["libabsent", "kmod"]);
}

#[test]
fn an_archive_that_is_away_is_one_clear_error() {
    let mirror = empty_packages();
    mirror.server.refuse(true);
    check_refused(&mirror, &["reached"]);
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let mirror = empty_packages();
    let path = mirror.pool_path("kmod");
    mirror.server.fail(&path, Fault::CutAfter(200));
    let outcome = mirror.pull(NAME).finish();
    // These packages hold no system, so it fails later; but not for want of this file.
    outcome.assert_code(1);
    let requests = mirror.server.requests_for(&path);
    assert!(requests.len() > 1 && requests[1].range.is_some(), "it is not resumed: {requests:?} {outcome:?}");
}

#[test]
fn a_pull_that_is_killed_goes_on_from_what_it_has() {
    let mirror = empty_packages();
    let slow = mirror.pool_path("procps");
    let pull = mirror.start_and_stall_at(NAME, &slow);
    std::thread::sleep(Duration::from_millis(500));
    pull.signal(Signal::KILL);
    let outcome = pull.wait();
    let installed = std::fs::read_dir(mirror.home.cache().join("environments")).map_or(0, Iterator::count);
    assert_eq!(installed, 0, "half an environment is left after {outcome:?}");

    mirror.pull(NAME).finish().assert_code(1);
    let again = mirror.server.requests_for(&mirror.pool_path("apt"));
    assert_eq!(again.len(), 1, "what was downloaded is downloaded again: {again:?}");
    mirror.home.assert_nothing_left();
}

#[test]
fn an_interrupted_pull_says_so_and_leaves_nothing() {
    let mirror = empty_packages();
    let slow = mirror.pool_path("procps");
    let pull = mirror.start_and_stall_at(NAME, &slow);
    pull.signal(Signal::INT);
    let outcome = pull.wait();
    outcome.assert_code(130);
    mirror.assert_nothing_installed(&outcome);
}

#[test]
fn a_failure_can_be_read_by_a_program() {
    let mirror = empty_packages();
    mirror.server.refuse(true);
    let outcome = mirror.home.pyro(&["env", "pull", "--json", NAME]).finish();
    outcome.assert_code(1);
    let answer = outcome.json();
    assert_eq!(answer["ok"], false, "{outcome:?}");
    for field in ["code", "message", "hint"] {
        assert!(answer["error"][field].is_string(), "no {field} in {outcome:?}");
    }
}
