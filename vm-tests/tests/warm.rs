//! Machines of one template: each is one of a kind before its first command, and none of them remembers another.

use std::time::{SystemTime, UNIX_EPOCH};

use vm_tests::Home;

#[test]
fn two_machines_never_share_their_randomness_or_identity() {
    let home = Home::shared();
    let script = "head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n'; echo; cat /proc/sys/kernel/random/uuid \
                  /etc/machine-id; python3 -c 'import secrets; print(secrets.token_hex(16))'";
    let outputs: Vec<String> = (0..3)
        .map(|_| {
            let outcome = home.run(&["sh", "-c", script]).finish();
            outcome.assert_code(0);
            outcome.stdout_text()
        })
        .collect();
    for line in 0..4 {
        let mut values: Vec<&str> =
            outputs.iter().map(|output| output.lines().nth(line).expect("four lines")).collect();
        assert!(values.iter().all(|value| value.len() >= 32), "{values:?}");
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 3, "a value came twice: {values:?}");
    }
}

#[test]
fn the_clock_is_the_hosts() {
    let home = Home::shared();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs();
    let before = now();
    let outcome = home.run(&["date", "+%s"]).finish();
    outcome.assert_code(0);
    let guests: u64 = outcome.stdout_text().trim().parse().expect("date prints a number");
    assert!((before..=now() + 1).contains(&guests), "the guest says {guests}, the host {before}");
}

#[test]
fn the_host_name_is_written_down() {
    let home = Home::shared();
    let script =
        "test \"$(hostname)\" = \"$(cat /etc/hostname)\" && getent hosts \"$(hostname)\" >/dev/null && echo same";
    home.run(&["sh", "-c", script]).finish().assert_code(0).assert_stdout("same\n");
}

#[test]
fn a_cold_machine_does_the_same() {
    let home = Home::shared();
    home.run_with(&["--cold"], &["sh", "-c", "echo cold; exit 4"]).finish().assert_code(4).assert_stdout("cold\n");
    home.assert_nothing_left();
}

#[test]
fn alone_fifty_runs_in_a_row() {
    let home = Home::shared();
    for number in 0..50 {
        let text = format!("{number}");
        home.run(&["echo", &text]).finish().assert_code(0).assert_stdout(format!("{number}\n"));
    }
    home.assert_nothing_left();
}
