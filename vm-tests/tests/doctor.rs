//! `pyro doctor`: always answers, whatever is missing, and changes nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::geteuid;
use serde_json::Value;
use vm_tests::{Home, Mirror, Outcome};

/// The check of this name in an answer in JSON.
#[track_caller]
fn check(outcome: &Outcome, name: &str) -> Value {
    let answer = outcome.json();
    let checks = answer["checks"].as_array().unwrap_or_else(|| panic!("no checks in {outcome:?}"));
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {outcome:?}")).clone()
}

/// Asks doctor, and expects this of one check.
#[track_caller]
fn expect(outcome: &Outcome, name: &str, status: &str, fix: &str) {
    let check = check(outcome, name);
    assert_eq!(check["status"], status, "{name} in {outcome:?}");
    let found_fix = check["fix"].as_str().unwrap_or_default();
    assert!(found_fix.contains(fix), "the fix of {name} is {found_fix:?}, not {fix:?}");
    let failed = outcome.json()["ok"] == false;
    assert_eq!(outcome.code, Some(i32::from(failed)), "{outcome:?}");
    if status == "fail" {
        assert!(failed, "{outcome:?}");
    }
}

#[test]
fn a_new_user_is_told_what_is_there_and_nothing_is_made() {
    let home = Home::empty();
    let mirror = "http://127.0.0.1:9/debian";
    let outcome = home.pyro(&["doctor", "--json"]).env("PYRO_DEBIAN_MIRROR", mirror).finish();
    expect(&outcome, "platform", "ok", "");
    expect(&outcome, "qemu", "ok", "");
    expect(&outcome, "environments", "warn", "pyro env pull debian:12");
    // Without an environment the archive is needed.
    expect(&outcome, "archive", "fail", "PYRO_DEBIAN_MIRROR");
    assert!(outcome.json()["error"]["message"].is_string() || outcome.json()["checks"].is_array(), "{outcome:?}");
    assert!(!home.cache().exists(), "doctor made the cache");
    home.assert_nothing_left();

    let text = home.pyro(&["doctor"]).env("PYRO_DEBIAN_MIRROR", mirror).finish();
    text.assert_code(1);
    assert!(text.stdout_text().contains("This host is not ready."), "{text:?}");
    assert!(text.stdout_text().lines().any(|line| line.starts_with("fail  archive")), "{text:?}");
}

#[test]
fn a_host_without_qemu_is_told_how_to_install_it() {
    let empty = Home::empty();
    let home = Home::shared().with_search_path(&[empty.path()]);
    let outcome = home.pyro(&["doctor", "--json"]).finish();
    expect(&outcome, "qemu", "fail", "install");
    home.run(&["true"]).finish().assert_refused(125, &["qemu-system-x86_64", "install"]);
    home.assert_nothing_left();
}

#[test]
fn a_qemu_that_does_not_work_is_named() {
    let home = Home::shared();
    let program = home.path().join("qemu");
    std::fs::write(&program, "#!/bin/sh\necho broken >&2\nexit 1\n").expect("our own directory");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    let home = home.with_config(&format!("qemu = \"{}\"\n", program.display()));
    let outcome = home.pyro(&["doctor", "--json"]).finish();
    expect(&outcome, "qemu", "fail", "qemu in config.toml");
    assert!(check(&outcome, "qemu")["found"].as_str().is_some_and(|found| found.contains("broken")), "{outcome:?}");
}

#[test]
fn an_unwritable_or_missing_place_for_files_is_told() {
    let home = Home::shared();
    let outcome = home.pyro(&["doctor", "--json"]).env("PYRO_STATE_DIR", "/proc/pyro").finish();
    expect(&outcome, "state", "fail", "PYRO_STATE_DIR");
    let outcome = home.pyro(&["doctor", "--json"]).env("PYRO_CACHE_DIR", "/proc/pyro").finish();
    expect(&outcome, "cache", "fail", "PYRO_CACHE_DIR");
    let nowhere = home.pyro(&["doctor", "--json"]).env("HOME", "").env("PYRO_STATE_DIR", "").finish();
    expect(&nowhere, "settings", "fail", "");
}

#[test]
fn a_full_disk_is_told() {
    if !geteuid().is_root() || !Path::new("/usr/bin/unshare").is_file() {
        println!("skipped: only root can mount a small disk");
        return;
    }
    let home = Home::shared();
    let state = home.path().join("state").to_string_lossy().into_owned();
    let script = "mount -t tmpfs -o size=1m none \"$1\" || exit 99; shift; exec \"$@\"";
    let through = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", &state];
    let outcome = home.pyro(&["doctor", "--json"]).through(&through).finish();
    expect(&outcome, "state", "fail", "free some room");
}

#[test]
fn a_kvm_that_is_asked_for_and_cannot_be_used_is_a_failure() {
    // Where KVM works there is nothing to be told.
    let home = Home::shared();
    let asked = home.pyro(&["doctor", "--json"]).env("PYRO_ACCELERATOR", "kvm").finish();
    let free = home.pyro(&["doctor", "--json"]).env("PYRO_ACCELERATOR", "auto").finish();
    let emulated = home.pyro(&["doctor", "--json"]).env("PYRO_ACCELERATOR", "tcg").finish();
    expect(&emulated, "kvm", "ok", "");
    if check(&asked, "kvm")["status"] != "ok" {
        expect(&asked, "kvm", "fail", check(&asked, "kvm")["fix"].as_str().expect("a fix"));
        expect(&free, "kvm", "warn", check(&free, "kvm")["fix"].as_str().expect("a fix"));
    }
}

#[test]
fn settings_that_are_wrong_are_a_check_like_the_others() {
    let home = Home::shared().with_config("acelerator = \"kvm\"\n");
    let outcome = home.pyro(&["doctor", "--json"]).finish();
    expect(&outcome, "settings", "fail", "accelerator");
}

#[test]
fn a_boot_shows_that_a_guest_starts_here() {
    let mirror = Mirror::with_tiny_installed();
    let outcome = mirror.home.pyro(&["doctor", "--boot", "--json"]).finish();
    expect(&outcome, "boot", "ok", "");
    let found = check(&outcome, "boot")["found"].as_str().map(str::to_owned).unwrap_or_default();
    assert!(found.contains("tiny took commands") && found.contains("Linux"), "{found}");
    mirror.home.assert_nothing_left();
}

#[test]
fn without_an_environment_there_is_nothing_to_boot() {
    let home = Home::empty();
    let outcome = home.pyro(&["doctor", "--boot", "--json"]).env("PYRO_DEBIAN_MIRROR", "http://127.0.0.1:9").finish();
    expect(&outcome, "boot", "fail", "pyro env pull debian:12");
    home.assert_nothing_left();
}
