//! Which accelerator a run gets on hosts good and bad. The hosts' faults are made here; the guests are real.

use std::time::Duration;

use vm_tests::false_qemu::{UnderKvm, install};
use vm_tests::{Home, Outcome};

/// How long finding out that KVM does not work may hold up the first run, beside the emulated boot that follows.
const PROBE_MAX: Duration = Duration::from_secs(10);

fn home_with_false_qemu(under_kvm: UnderKvm) -> Home {
    let home = Home::borrowing();
    let qemu = install(home.path(), under_kvm);
    home.with_config(&format!("qemu = \"{}\"\n", qemu.display()))
}

#[track_caller]
fn echo(home: &Home) -> Outcome {
    let outcome = home.run(&["echo", "up"]).finish();
    outcome.assert_code(0).assert_stdout("up\n");
    outcome
}

#[track_caller]
fn check_ends_in_emulation(under_kvm: UnderKvm) {
    let home = home_with_false_qemu(under_kvm);
    let first = echo(&home);
    first.assert_stderr_has("emulat");
    let second = echo(&home);
    assert!(second.elapsed < first.elapsed, "the verdict is kept: {first:?} {second:?}");
    home.assert_nothing_left();
}

#[test]
fn alone_a_kvm_that_hangs_ends_in_emulation() {
    check_ends_in_emulation(UnderKvm::Hangs);
}

#[test]
fn alone_a_kvm_that_dies_ends_in_emulation() {
    check_ends_in_emulation(UnderKvm::Dies);
}

#[test]
fn alone_finding_out_about_kvm_is_quick() {
    let emulated = Home::borrowing();
    let emulated_first = emulated.run_with(&["--cold"], &["true"]).env("PYRO_ACCELERATOR", "tcg").finish();
    let found_out = Home::borrowing().run_with(&["--cold"], &["true"]).finish();
    emulated_first.assert_code(0);
    found_out.assert_code(0);
    let limit = emulated_first.elapsed * 2 + PROBE_MAX;
    assert!(found_out.elapsed < limit, "{:?} against {:?}", found_out.elapsed, emulated_first.elapsed);
}

#[test]
fn a_kvm_that_was_asked_for_and_does_not_work_is_an_error() {
    let home = home_with_false_qemu(UnderKvm::Dies);
    let outcome = home.run(&["true"]).env("PYRO_ACCELERATOR", "kvm").finish();
    outcome.assert_code(125).assert_stdout("").assert_stderr_has("kvm");
    home.assert_nothing_left();
}

#[test]
fn emulation_can_be_asked_for() {
    let home = Home::shared();
    let outcome = home.run(&["echo", "up"]).env("PYRO_ACCELERATOR", "tcg").finish();
    outcome.assert_code(0).assert_stdout("up\n");
}
