//! `pyro run`: what the guest's command gets, and what comes back of it.

use std::time::Duration;

use vm_tests::{DEBIAN_BUILD, Home};

/// Enough for a hundred megabytes through an emulated machine that shares its host.
const BULK_LIMIT: Duration = Duration::from_secs(300);

#[test]
fn git_answers_from_inside_the_guest() {
    let home = Home::shared();
    let outcome = home.run(&["git", "--version"]).finish();
    outcome.assert_code(0);
    assert!(outcome.stdout.starts_with(b"git version 2.39"), "{outcome:?}");
    home.assert_nothing_left();
}

#[test]
fn streams_stay_apart_and_the_exit_code_comes_back() {
    let home = Home::shared();
    let outcome = home.run(&["sh", "-c", "echo out; echo err >&2; exit 7"]).finish();
    outcome.assert_code(7).assert_stdout("out\n").assert_stderr_has("err\n");
    assert!(!outcome.stderr_text().contains("error:"), "the guest's exit code is no failure of pyro: {outcome:?}");
    home.assert_nothing_left();
}

#[test]
fn any_byte_arrives() {
    let home = Home::shared();
    let outcome = home.run(&["sh", "-c", r#"printf "\377\0x"; printf "\376\0y" >&2"#]).finish();
    outcome.assert_code(0).assert_stdout(b"\xff\0x");
    assert!(outcome.stderr.windows(3).any(|window| window == b"\xfe\0y"), "{outcome:?}");
}

#[test]
fn output_comes_while_the_command_runs() {
    let home = Home::shared();
    let mut running = home.run(&["sh", "-c", "echo first; sleep 20; echo second"]).start();
    running.wait_for_stdout("first\n");
    assert_eq!(running.stdout_so_far(), b"first\n");
    drop(running);
    home.assert_nothing_left();
}

#[test]
fn words_reach_the_guest_as_they_are() {
    let home = Home::shared();
    let outcome = home.run(&["printf", "%s|", "a b", "$HOME", "*", "", "-v", "--", "größe", "\"'\\"]).finish();
    outcome.assert_code(0).assert_stdout("a b|$HOME|*||-v|--|größe|\"'\\|");
}

#[test]
fn the_environment_is_the_guests_own_and_what_was_given() {
    let home = Home::shared();
    let script = r#"echo "$GIVEN"; echo "$HOME"; echo "${LEAKED-none}"; command -v git; test -d "$PWD" && echo dir"#;
    let call = home.run_with(&["--env", "GIVEN=a b=c", "--env", "EMPTY="], &["sh", "-c", script]);
    call.env("LEAKED", "from the host")
        .finish()
        .assert_code(0)
        .assert_stdout("a b=c\n/root\nnone\n/usr/bin/git\ndir\n");
}

#[test]
fn the_guest_is_a_machine_of_its_own() {
    let home = Home::shared();
    let script = "id -u; test -d /lib/modules/$(uname -r) && echo modules; modprobe overlay && modprobe tun && echo loaded; \
                  ls /sys/class/net; touch /etc/x /usr/bin/x && echo writable; cat /proc/1/comm";
    let outcome = home.run(&["sh", "-c", script]).finish();
    outcome.assert_code(0).assert_stdout("0\nmodules\nloaded\nlo\nwritable\npyro-guest\n");
}

#[test]
fn processors_and_memory_are_as_asked() {
    let home = Home::shared();
    let script = "nproc; awk '/MemTotal/ { print ($2 > 400000 && $2 < 524288) }' /proc/meminfo";
    let outcome = home.run_with(&["--vcpu-count", "2", "--mem-mib", "512"], &["sh", "-c", script]).finish();
    outcome.assert_code(0).assert_stdout("2\n1\n");
}

#[test]
fn one_run_sees_nothing_of_another() {
    let home = Home::shared();
    home.run(&["sh", "-c", "echo mine >/root/file && cat /root/file"]).finish().assert_code(0).assert_stdout("mine\n");
    home.run(&["test", "-e", "/root/file"]).finish().assert_code(1);
}

#[test]
fn standard_input_reaches_the_command_and_ends() {
    let home = Home::shared();
    let outcome = home.run_with(&["-i"], &["sh", "-c", "cat; echo end"]).stdin("one\ntwo").finish();
    outcome.assert_code(0).assert_stdout("one\ntwoend\n");
}

#[test]
fn without_i_the_command_has_no_input() {
    let home = Home::shared();
    home.run(&["cat"]).silent_stdin().finish().assert_code(0).assert_stdout("");
}

#[test]
fn a_command_may_leave_its_input_unread() {
    let home = Home::shared();
    let outcome = home.run_with(&["-i"], &["head", "-c", "3"]).stdin(vec![b'x'; 8 << 20]).finish();
    outcome.assert_code(0).assert_stdout("xxx");
    home.run_with(&["-i"], &["echo", "done"]).silent_stdin().finish().assert_code(0).assert_stdout("done\n");
    home.assert_nothing_left();
}

#[test]
fn alone_a_hundred_megabytes_go_in_and_out_exactly() {
    let home = Home::shared();
    let sent = noise(100_000_000);
    let call = home.run_with(&["-i", "--timeout-seconds", "240"], &["cat"]);
    let outcome = call.stdin(sent.clone()).limit(BULK_LIMIT).finish();
    outcome.assert_code(0);
    assert_eq!(outcome.stdout.len(), sent.len());
    assert!(outcome.stdout == sent, "the bytes came back changed");
    home.assert_nothing_left();
}

#[test]
fn alone_a_hundred_megabytes_come_out_exactly() {
    let home = Home::shared();
    let argv = ["sh", "-c", "yes 0123456789abcde | head -c 100000000"];
    let outcome = home.run_with(&["--timeout-seconds", "240"], &argv).limit(BULK_LIMIT).finish();
    outcome.assert_code(0);
    assert_eq!(outcome.stdout.len(), 100_000_000);
    assert!(outcome.stdout.chunks(16).all(|line| line == b"0123456789abcde\n"), "the bytes came back changed");
}

#[test]
fn a_command_that_is_too_slow_is_killed_with_all_it_started() {
    let home = Home::shared();
    let script = "echo early; sleep 60 & sleep 60";
    let outcome = home.run_with(&["--timeout-seconds", "2"], &["sh", "-c", script]).finish();
    outcome.assert_code(124).assert_stdout("early\n");
    assert!(outcome.elapsed >= Duration::from_secs(2), "{outcome:?}");
    home.assert_nothing_left();
}

#[test]
fn a_process_left_in_the_background_holds_up_nothing() {
    let home = Home::shared();
    let outcome = home.run_with(&["--timeout-seconds", "600"], &["sh", "-c", "sleep 500 & echo started"]).finish();
    outcome.assert_code(0).assert_stdout("started\n");
    home.assert_nothing_left();
}

#[test]
fn a_program_that_cannot_run_is_named() {
    let home = Home::shared();
    home.run(&["no-such-program"]).finish().assert_refused(127, &["no-such-program"]);
    home.run(&["/etc/passwd"]).finish().assert_refused(126, &["/etc/passwd"]);
    home.assert_nothing_left();
}

#[test]
fn a_command_ended_by_a_signal_says_which() {
    let home = Home::shared();
    home.run(&["sh", "-c", "kill -KILL $$"]).finish().assert_code(137);
    home.run(&["sh", "-c", "kill -TERM $$"]).finish().assert_code(143);
}

#[test]
fn the_build_environment_compiles() {
    let home = Home::shared();
    let script = "gcc --version | head -n 1 && printf 'int main(void){return 42;}' | gcc -x c -o /tmp/a - && /tmp/a";
    let call = home.pyro(&["run", "--timeout-seconds", "120", DEBIAN_BUILD, "--", "sh", "-c", script]);
    let outcome = call.finish();
    outcome.assert_code(42);
    assert!(outcome.stdout.starts_with(b"gcc (Debian 12"), "{outcome:?}");
}

#[test]
fn alone_eight_runs_at_once() {
    let home = Home::shared();
    let runs: Vec<_> = (0..8)
        .map(|number| {
            let script = format!("echo run {number}; exit {number}");
            home.run_with(&["--timeout-seconds", "120"], &["sh", "-c", &script]).limit(BULK_LIMIT).start()
        })
        .collect();
    for (number, run) in (0..).zip(runs) {
        run.wait().assert_code(number).assert_stdout(format!("run {number}\n"));
    }
    home.assert_nothing_left();
}

#[test]
fn an_unknown_environment_lists_the_known_ones() {
    let home = Home::shared();
    let outcome = home.pyro(&["run", "debian:99", "--", "true"]).finish();
    outcome.assert_refused(125, &["debian:99", "debian:12"]);
}

#[test]
fn an_environment_that_is_not_installed_says_how_to_get_it() {
    let home = Home::empty();
    let outcome = home.run(&["true"]).finish();
    outcome.assert_refused(125, &["pyro env pull debian:12"]);
    home.assert_nothing_left();
}

/// Bytes without a pattern that a lost or doubled block could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
