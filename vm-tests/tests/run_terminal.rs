//! `pyro run -t`: a terminal in the guest, and the person's own terminal given back as it was.

use rustix::process::Signal;
use vm_tests::{Home, Terminal};

#[track_caller]
fn on_terminal(home: &Home, script: &str) -> Terminal {
    let call = home.run_with(&["-i", "-t", "--timeout-seconds", "100"], &["sh", "-c", script]);
    Terminal::start(call, 33, 101)
}

#[test]
fn the_guest_has_a_terminal_of_the_same_size() {
    let home = Home::shared();
    let mut terminal = on_terminal(&home, "stty size; test -t 0 && test -t 1 && test -t 2 && echo all three; tty");
    let outcome = terminal.wait();
    outcome.assert_code(0);
    let screen = outcome.stdout_text();
    assert!(screen.contains("33 101\r\nall three\r\n/dev/pts/"), "{outcome:?}");
    home.assert_nothing_left();
}

#[test]
fn a_new_window_size_is_followed() {
    let home = Home::shared();
    let script = "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut terminal = on_terminal(&home, script);
    terminal.wait_for("ready");
    terminal.resize(44, 140);
    terminal.wait_for("44 140");
    terminal.wait().assert_code(5);
}

#[test]
fn keys_reach_the_command() {
    let home = Home::shared();
    let mut terminal = on_terminal(&home, "echo ready; read line; echo \"got <$line>\"; exit 3");
    terminal.wait_for("ready");
    terminal.type_in(b"hello there\r");
    terminal.wait_for("got <hello there>");
    terminal.wait().assert_code(3);
}

#[test]
fn an_interrupt_key_reaches_the_command_not_pyro() {
    let home = Home::shared();
    let script = "trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.1; done";
    let mut terminal = on_terminal(&home, script);
    terminal.wait_for("ready");
    terminal.type_in(b"\x03");
    terminal.wait_for("caught");
    terminal.wait().assert_code(6);
}

#[test]
fn the_end_of_input_key_ends_the_commands_input() {
    let home = Home::shared();
    let mut terminal = on_terminal(&home, "echo ready; cat; echo over");
    terminal.wait_for("ready");
    terminal.type_in(b"text\r\x04");
    terminal.wait_for("over");
    terminal.wait().assert_code(0);
}

#[test]
fn the_persons_terminal_is_given_back() {
    let home = Home::shared();
    let mut terminal = on_terminal(&home, "echo ready; read line; exit 0");
    let before = terminal.modes();
    terminal.wait_for("ready");
    assert_ne!(terminal.modes(), before, "the terminal is raw while the guest has it");
    terminal.type_in(b"\r");
    terminal.wait().assert_code(0);
    assert_eq!(terminal.modes(), before);
}

#[test]
fn the_persons_terminal_is_given_back_after_a_signal() {
    for signal in [Signal::TERM, Signal::HUP] {
        let home = Home::shared();
        let mut terminal = on_terminal(&home, "echo ready; sleep 500");
        let before = terminal.modes();
        terminal.wait_for("ready");
        terminal.signal(signal);
        assert_ne!(terminal.wait().code, Some(0));
        assert_eq!(terminal.modes(), before, "after {signal:?}");
        home.assert_nothing_left();
    }
}
