//! Which accelerator a run gets on hosts good and bad. The hosts' faults are made here; the guests are real.

use std::fs::File;
use std::time::Duration;

use rustix::process::geteuid;
use serde_json::Value;
use vm_tests::false_qemu::{Restarting, UnderKvm, install};
use vm_tests::{Home, Outcome, Pyro};

/// How long finding out that KVM does not work may hold up the first run, beside the emulated boot that follows.
const PROBE_MAX: Duration = Duration::from_secs(10);

fn home_with_false_qemu(under_kvm: UnderKvm) -> Home {
    let home = Home::borrowing();
    let qemu = install(home.path(), under_kvm);
    home.with_config(&format!("qemu = \"{}\"\n", qemu.display()))
}

/// In the `/dev` of [`OTHER_DEV`], KVM as the host has it, but open to all.
const KVM_FOR_ALL: &str = "mknod -m 666 \"$dev/kvm\" c 10 232";

/// Where the host has a KVM, it is tried, found out to be of no use in these `words`, and not tried again.
#[track_caller]
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
fn check_ends_in_emulation(under_kvm: UnderKvm, words: &str) {
    let home = home_with_false_qemu(under_kvm);
    let echo = || {
        let outcome = in_other_dev(&home, KVM_FOR_ALL, home.run(&["echo", "up"]));
        outcome.assert_code(0).assert_stdout("up\n").assert_stderr_has("emulat");
        outcome
    };
    let first = echo();
    if File::open("/dev/kvm").is_ok() {
        first.assert_stderr_has(words);
    } else {
        println!("NOT TESTED: this host has no KVM to be tried");
    }
    let second = echo();
    assert!(second.elapsed < first.elapsed, "the verdict is kept: {first:?} {second:?}");
    home.assert_nothing_left();
}

#[test]
fn alone_a_kvm_that_hangs_ends_in_emulation() {
    check_ends_in_emulation(UnderKvm::Hangs, "/dev/kvm opens, but QEMU did not come up with it within 8 s");
}

#[test]
fn alone_a_kvm_that_dies_ends_in_emulation() {
    check_ends_in_emulation(
        UnderKvm::Dies,
        "/dev/kvm opens, but QEMU does not start with it: failed to set MSR 0x10a to 0x0",
    );
}

#[test]
fn alone_finding_out_about_kvm_is_quick() {
    let emulated = Home::borrowing();
    let emulated_first = emulated.run_with(&["--cold"], &["true"]).env("PYRO_ACCELERATOR", "tcg").finish();
    let home = home_with_false_qemu(UnderKvm::Hangs);
    let found_out = in_other_dev(&home, KVM_FOR_ALL, home.run_with(&["--cold"], &["true"]));
    emulated_first.assert_code(0);
    found_out.assert_code(0);
    let limit = emulated_first.elapsed * 2 + PROBE_MAX;
    assert!(found_out.elapsed < limit, "{:?} against {:?}", found_out.elapsed, emulated_first.elapsed);
}

#[test]
fn alone_whatever_this_hosts_kvm_is_good_for_a_run_works() {
    let home = Home::borrowing();
    let outcome = in_other_dev(&home, KVM_FOR_ALL, home.run(&["echo", "up"]));
    outcome.assert_code(0).assert_stdout("up\n");
    println!("{}", outcome.stderr_text());
    home.assert_nothing_left();
}

#[test]
fn a_kvm_that_was_asked_for_and_does_not_work_is_an_error() {
    let home = home_with_false_qemu(UnderKvm::Dies);
    let outcome = home.run(&["true"]).env("PYRO_ACCELERATOR", "kvm").finish();
    outcome.assert_code(125).assert_stdout("").assert_stderr_has("kvm");
    home.assert_nothing_left();
}

/// On a host whose next `restarts` guests restart themselves, `flags` start a machine at the second try at the latest.
#[track_caller]
fn check_is_booted_once_more(flags: &[&str], restarts: usize, boots: usize, works: bool) {
    let home = Home::borrowing();
    let mut qemu = Restarting::install(home.path(), restarts, boots);
    let home = home.with_config(&format!("qemu = \"{}\"\n", qemu.program.display()));
    let outcome = home.run_with(flags, &["echo", "up"]).env("PYRO_ACCELERATOR", "tcg").finish();
    outcome.assert_stderr_has("the guest restarted itself while it booted; booting it once more");
    if works {
        outcome.assert_code(0).assert_stdout("up\n");
    } else {
        outcome.assert_code(125).assert_stdout("").assert_stderr_has("waiting for the guest agent");
    }
    assert_eq!(qemu.left(), 0, "{outcome:?}");
    home.assert_nothing_left();
}

#[test]
fn a_guest_that_restarts_itself_is_booted_once_more() {
    check_is_booted_once_more(&["--cold"], 1, 1, true);
}

#[test]
fn a_template_whose_guest_restarts_itself_is_made_once_more() {
    check_is_booted_once_more(&[], 1, 2, true);
}

#[test]
fn a_guest_that_always_restarts_itself_is_given_up() {
    check_is_booted_once_more(&["--cold"], 2, 0, false);
}

#[test]
fn a_trial_of_kvm_whose_guest_restarts_itself_is_made_once_more() {
    let home = Home::borrowing();
    let mut qemu = Restarting::install(home.path(), 1, 2);
    let home = home.with_config(&format!("qemu = \"{}\"\n", qemu.program.display()));
    let run = home.run_with(&["--cold", "--json"], &["echo", "up"]);
    let outcome = in_other_dev(&home, KVM_FOR_ALL, run);
    outcome.assert_code(0);
    if File::open("/dev/kvm").is_ok() {
        assert_eq!(outcome.json()["accelerator"], "kvm", "{outcome:?}");
        assert_eq!(qemu.left(), 0, "{outcome:?}");
    }
    home.assert_nothing_left();
}

#[test]
fn doctor_names_a_guest_that_does_not_boot() {
    let home = Home::borrowing();
    let qemu = Restarting::install(home.path(), 2, 0);
    let home = home.with_config(&format!("qemu = \"{}\"\n", qemu.program.display()));
    let doctor = home.pyro(&["doctor", "--boot"]).env("PYRO_ACCELERATOR", "tcg").finish();
    doctor.assert_code(1);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains("fail  boot"), "{text}");
    assert!(text.contains("the guest restarted itself"), "{text}");
    home.assert_nothing_left();
}

#[test]
fn emulation_can_be_asked_for() {
    let home = Home::shared();
    let outcome = home.run(&["echo", "up"]).env("PYRO_ACCELERATOR", "tcg").finish();
    outcome.assert_code(0).assert_stdout("up\n");
}

/// What runs in a `/dev` of its own, without KVM but for what `$KVM` makes there.
const OTHER_DEV: &str = "\
    dev=$1/dev; shift; mkdir -p \"$dev\"; mount -t tmpfs -o mode=755 none \"$dev\" || exit 99\n\
    for name in null zero full random urandom tty; do : > \"$dev/$name\"; mount --bind \"/dev/$name\" \"$dev/$name\" || exit 99; done\n\
    ln -s /proc/self/fd \"$dev/fd\"; eval \"$KVM\" || exit 99; mount --bind \"$dev\" /dev || exit 99; exec \"$@\"";

/// Makes the call where `/dev/kvm` is what `make` makes of it.
#[track_caller]
fn in_other_dev(home: &Home, make: &str, call: Pyro) -> Outcome {
    assert!(geteuid().is_root(), "nothing can be mounted: run this test as root");
    let top = home.path().to_str().expect("paths of tests are text");
    let through = ["unshare", "--mount", "--propagation", "private", "sh", "-c", OTHER_DEV, "sh", top];
    let outcome = call.env("KVM", make).through(&through).finish();
    assert_ne!(outcome.code, Some(99), "this host's /dev cannot be replaced: {outcome:?}");
    outcome
}

/// On a host whose `/dev/kvm` is what `make` makes of it, doctor and a run say `reason`, and the run works.
#[track_caller]
fn check_emulates_because(make: &str, reason: &str) {
    let home = Home::shared();
    let on_it = |call: Pyro, choice: &str| in_other_dev(&home, make, call.env("PYRO_ACCELERATOR", choice));
    let doctor = on_it(home.pyro(&["doctor", "--json"]), "auto");
    let checks = doctor.json()["checks"].as_array().cloned().expect("a list");
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).cloned().unwrap_or(Value::Null);
    assert_eq!(
        (check("kvm")["status"].as_str(), check("kvm")["found"].as_str()),
        (Some("warn"), Some(reason)),
        "{doctor:?}"
    );
    assert!(check("kvm")["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{doctor:?}");
    assert_eq!(check("accelerator")["found"], format!("software emulation: {reason}"), "{doctor:?}");

    let outcome = on_it(home.run(&["echo", "up"]), "auto");
    outcome.assert_code(0).assert_stdout("up\n").assert_stderr_has(&format!("software emulation: {reason}"));
    // Asked for all the same, it is refused with the same words.
    on_it(home.run(&["true"]), "kvm").assert_refused(125, &[reason]);
    home.assert_nothing_left();
}

#[test]
fn a_host_without_kvm_emulates_and_says_so() {
    check_emulates_because("true", "there is no /dev/kvm");
}

#[test]
fn a_host_whose_kvm_is_none_emulates_and_says_so() {
    let make = ": > \"$dev/kvm\" && mount --bind /dev/null \"$dev/kvm\"";
    let words = "/dev/kvm does not work: it does not tell its version: Inappropriate ioctl for device (os error 25)";
    check_emulates_because(make, words);
}
