//! Machines of one template: each is one of a kind before its first command, and none of them remembers another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use vm_tests::{Home, Running, leftovers};

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

#[test]
fn alone_whoever_is_killed_while_a_template_is_made_harms_no_later_run() {
    let home = Home::borrowing();
    let start = || home.run(&["echo", "up"]).env("PYRO_ACCELERATOR", "tcg").start();
    let machine_of = |running: &mut Running| loop {
        running.assert_running();
        let machine = leftovers::descendants(running.pid()).into_iter().find(|pid| leftovers::is_called(*pid, "qemu"));
        match machine {
            Some(machine) => break machine,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    // The machine that would become the template, in the middle of its boot.
    let mut running = start();
    let machine = machine_of(&mut running);
    std::thread::sleep(Duration::from_millis(700));
    leftovers::kill(machine);
    running.wait().assert_refused(125, &[]);
    home.assert_nothing_left();
    // pyro, then and when the state of the devices is being saved.
    let saving = || {
        let staged = std::fs::read_dir(home.cache().join("staging")).into_iter().flatten().flatten();
        staged.filter_map(|entry| entry.path().join("state").metadata().ok()).any(|state| state.len() > 0)
    };
    for at_the_end in [false, true] {
        let mut running = start();
        machine_of(&mut running);
        if at_the_end {
            while !saving() {
                running.assert_running();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        running.signal(Signal::KILL);
        drop(running.wait());
    }
    start().wait().assert_code(0).assert_stdout("up\n");
    // The next one has it and uses it; nothing is left of those that were begun.
    home.assert_nothing_left();
    let kept = std::fs::read_dir(home.cache().join("templates")).expect("a template was made").count();
    assert_eq!(kept, 1);
    // A torn one is made again, and the run does not notice.
    let torn = std::fs::read_dir(home.cache().join("templates")).expect("it is there").next().expect("one");
    std::fs::write(torn.expect("it can be read").path().join("state"), b"torn").expect("our own cache");
    start().wait().assert_code(0).assert_stdout("up\n");
    home.assert_nothing_left();
}
