//! `pyro run` that is cut short: by signals, by a reader that goes away, by the death of pyro or of its machine.

use std::time::Duration;

use rustix::process::Signal;
use vm_tests::{Home, Outcome, Running, leftovers};

/// A command that says `up` and then would run for long.
const UP: [&str; 3] = ["sh", "-c", "echo up; sleep 500 & sleep 500"];

#[track_caller]
fn check_signal(signal: Signal, code: i32) {
    let home = Home::shared();
    let outcome = interrupted(&home, |running| running.signal(signal));
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    outcome.assert_stdout("up\n");
    home.assert_nothing_left();
}

/// Starts a long command, waits until the guest runs it, does something to it, and gives the end.
#[track_caller]
fn interrupted(home: &Home, act: impl FnOnce(&Running)) -> Outcome {
    let mut running = home.run_with(&["--timeout-seconds", "600"], &UP).start();
    running.wait_for_stdout("up\n");
    act(&running);
    running.wait()
}

#[test]
fn an_interrupt_ends_all() {
    check_signal(Signal::INT, 130);
}

#[test]
fn a_termination_ends_all() {
    check_signal(Signal::TERM, 143);
}

#[test]
fn a_hangup_ends_all() {
    check_signal(Signal::HUP, 129);
}

#[test]
fn a_killed_pyro_leaves_nothing() {
    let home = Home::shared();
    let outcome = interrupted(&home, |running| running.signal(Signal::KILL));
    assert_eq!(outcome.signal, Some(9), "{outcome:?}");
    home.assert_nothing_left();
}

#[test]
fn a_killed_machine_is_a_clear_error() {
    let home = Home::shared();
    let outcome = interrupted(&home, |running| {
        let machines = qemus_of(running.pid());
        assert_eq!(machines.len(), 1, "one machine a run");
        machines.into_iter().for_each(leftovers::kill);
    });
    outcome.assert_code(125).assert_stdout("up\n").assert_stderr_has("error:");
    home.assert_nothing_left();
    home.run(&["echo", "again"]).finish().assert_code(0).assert_stdout("again\n");
}

#[test]
fn a_signal_while_the_machine_starts_leaves_nothing() {
    let home = Home::shared();
    for delay_ms in [0, 20, 60, 150, 400] {
        let running = home.run(&UP).start();
        std::thread::sleep(Duration::from_millis(delay_ms));
        running.signal(Signal::TERM);
        let outcome = running.wait();
        assert_ne!(outcome.code, Some(0), "{outcome:?}");
        home.assert_nothing_left();
    }
}

#[test]
fn a_pyro_killed_while_the_machine_starts_leaves_nothing() {
    let home = Home::shared();
    for delay_ms in [10, 50, 120, 300] {
        let running = home.run(&UP).start();
        std::thread::sleep(Duration::from_millis(delay_ms));
        running.signal(Signal::KILL);
        drop(running.wait());
        home.assert_nothing_left();
    }
    home.run(&["echo", "again"]).finish().assert_code(0).assert_stdout("again\n");
}

#[test]
fn a_reader_that_goes_away_ends_the_run() {
    let home = Home::shared();
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    drop(reader);
    let call = home.run_with(&["--timeout-seconds", "600"], &["yes"]);
    let outcome = call.stdout_to(writer.into()).finish();
    assert_ne!(outcome.code, Some(124), "it ended by itself: {outcome:?}");
    assert!(!outcome.stderr_text().contains("panicked"), "{outcome:?}");
    home.assert_nothing_left();
}

#[test]
fn a_full_disk_under_the_output_is_told() {
    let home = Home::shared();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
    let outcome = home.run(&["echo", "lost"]).stdout_to(full).finish();
    outcome.assert_code(125).assert_stderr_has("error:");
    home.assert_nothing_left();
}

fn qemus_of(pid: u32) -> Vec<u32> {
    leftovers::descendants(pid).into_iter().filter(|pid| leftovers::is_called(*pid, "qemu-system")).collect()
}
