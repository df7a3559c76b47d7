//! Commands of a workspace: many at once, long ones beside short ones, and those that nobody waits for.

use std::time::Duration;

use serde_json::{Value, json};
use vm_tests::{Home, Workspace};

/// The commands of the log.
fn logged(workspace: &Workspace<'_>) -> Vec<Value> {
    let logs = workspace.verb("logs", &["--json"]).finish().json();
    logs["commands"].as_array().cloned().unwrap_or_default()
}

#[test]
fn many_commands_at_once_all_run_and_are_all_logged_once_alone() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    let numbers: Vec<u32> = (0..30).collect();
    std::thread::scope(|scope| {
        for part in numbers.chunks(10) {
            let workspace = &workspace;
            scope.spawn(move || {
                let running: Vec<_> = part
                    .iter()
                    .map(|number| {
                        let script = format!("echo {number}; echo {number} >> all; exit {}", number % 3);
                        let limited = ["--timeout-seconds", "300", "--", "sh", "-c", &script];
                        (number, workspace.verb("exec", &limited).limit(Duration::from_secs(300)).start())
                    })
                    .collect();
                for (number, call) in running {
                    let code = i32::try_from(number % 3).expect("small");
                    call.wait().assert_code(code).assert_stdout(format!("{number}\n"));
                }
            });
        }
    });
    let mut all: Vec<u32> = workspace.sh("cat all").lines().map(|line| line.parse().expect("a number")).collect();
    all.sort_unstable();
    assert_eq!(all, numbers, "each ran exactly once");

    let mut commands = logged(&workspace);
    let sequences: Vec<u64> = commands.iter().filter_map(|command| command["exec"].as_u64()).collect();
    assert_eq!(sequences, (1..=31).collect::<Vec<u64>>());
    commands.truncate(30);
    let mut outputs: Vec<u32> = commands
        .iter()
        .map(|command| {
            let number: u32 = command["output"].as_str().and_then(|text| text.trim().parse().ok()).expect("a number");
            assert_eq!((&command["state"], &command["exit_code"]), (&json!("exited"), &json!(number % 3)), "{command}");
            number
        })
        .collect();
    outputs.sort_unstable();
    assert_eq!(outputs, numbers, "each was logged with its own output");
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_busy_workspace_answers() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    assert_eq!(workspace.sh("echo here > file"), "");
    // One that computes, one that prints without end to a reader that does not read.
    let busy = ["--timeout-seconds", "600", "--", "sh", "-c", "echo begun; while :; do :; done"];
    let mut computing = workspace.verb("exec", &busy).start();
    computing.wait_for_stdout("begun\n");
    let (unread, filled) = std::io::pipe().expect("a pipe");
    let full = std::fs::File::from(std::os::fd::OwnedFd::from(filled));
    let printing = workspace.exec(&["yes"]).stdout_to(full).start();
    let running = || workspace.status()["running_commands"].as_array().map_or(0, Vec::len);
    while running() < 2 {
        std::thread::sleep(Duration::from_millis(50));
    }
    workspace.verb("file read", &["file"]).finish().assert_stdout("here\n");
    workspace.verb("file list", &[]).finish().assert_code(0);
    workspace.verb("diff", &["--name-status"]).finish().assert_stdout("A\tfile\n");
    assert_eq!(workspace.sh("cat file"), "here\n");
    drop((printing, computing, unread));
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_command_that_was_left_running_is_followed_and_killed() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    let detach = |script: &str| {
        let call = workspace.verb("exec", &["--detach", "--json", "--", "sh", "-c", script]).finish();
        call.assert_code(0);
        call.json()["exec"].to_string()
    };
    let script = "echo one; echo two >&2; while [ ! -e go ]; do sleep 0.1; done; echo three; exit 7";
    let first = detach(script);
    let wait = |exec: &str, flags: &[&str]| workspace.verb("wait", &[exec]).args(flags);
    // What is there, from where one left off, to its end.
    let mut seen = json!({"cursor": 0});
    while seen["cursor"] != 8 {
        let look = wait(&first, &["--timeout-seconds", "0", "--json"]).finish();
        seen = look.assert_code(124).json();
    }
    assert_eq!(
        (&seen["state"], &seen["stdout"], &seen["stderr"]),
        (&json!("running"), &json!("one\n"), &json!("two\n"))
    );
    let rest = wait(&first, &["--cursor", "8"]).start();
    let whole = wait(&first, &[]).start();
    assert_eq!(workspace.sh("touch go"), "");
    rest.wait().assert_code(7).assert_stdout("three\n");
    whole.wait().assert_code(7).assert_stdout("one\nthree\n").assert_stderr_has("two\n");
    wait(&first, &[]).finish().assert_code(7).assert_stdout("one\nthree\n");

    let second = detach("sleep 1000 & sleep 1000");
    let waiting = wait(&second, &[]).start();
    workspace.verb("kill", &[&second]).finish().assert_code(0).assert_stdout_has("killed after");
    waiting.wait().assert_code(137).assert_stderr_has("was killed");
    assert_eq!(workspace.sh("pgrep -x sleep || true"), "", "with everything it had started");
    workspace.verb("kill", &[&second]).finish().assert_code(0).assert_stdout_has("ended before");
    workspace.verb("kill", &["99"]).finish().assert_refused(1, &["no command 99", "pyro workspace logs"]);
    wait("99", &[]).finish().assert_refused(125, &["no command 99", "pyro workspace logs"]);

    // One whose machine is lost does not run, whatever its supervisor was about to write.
    let third = detach("echo begun; sleep 1000");
    let waiting = wait(&third, &[]).start();
    workspace.kill("supervisor_pid");
    waiting.wait().assert_code(125).assert_stderr_has("lost with its machine");
    assert_eq!(logged(&workspace).last().map(|command| command["state"].clone()), Some(json!("lost")));
    workspace.delete();
    home.assert_nothing_left();
}
