//! Shells that stay: typed into and read by calls that come and go, looked at as a screen, taken over by a terminal.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use vm_tests::mcp::ChatHost;
use vm_tests::{Home, Outcome, Terminal, Workspace};

/// A shell of a workspace.
struct Shell<'a> {
    workspace: &'a Workspace<'a>,
    id: String,
}

impl<'a> Shell<'a> {
    fn open(workspace: &'a Workspace<'a>, flags: &[&str]) -> Self {
        let call = workspace.verb("shell open", &["--id-only"]).args(flags).finish();
        call.assert_code(0);
        let shell = Self { workspace, id: call.stdout_text().trim().to_owned() };
        // Its prompt: what is typed before is echoed twice.
        shell.wait_for(0, "[$#] $");
        shell
    }

    fn verb(&self, verb: &str, flags: &[&str]) -> Outcome {
        self.workspace.verb(&format!("shell {verb}"), &[&self.id]).args(flags).finish()
    }

    /// Types, and answers with the cursor from which the answer comes.
    fn write(&self, flags: &[&str]) -> u64 {
        let call = self.verb("write", &["--json"].iter().chain(flags).copied().collect::<Vec<_>>());
        call.assert_code(0);
        call.json()["cursor"].as_u64().expect("a cursor")
    }

    fn enter(&self, line: &str) -> u64 {
        self.write(&["--input", line])
    }

    /// Reads as soon as the pattern appears after the cursor.
    fn wait_for(&self, cursor: u64, pattern: &str) -> Value {
        let cursor = cursor.to_string();
        let flags = ["--json", "--plain", "--timeout-seconds", "120", "--cursor", &cursor, "--wait-for", pattern];
        let call = self.verb("read", &flags);
        call.assert_code(0);
        assert_eq!(call.json()["waited"], "matched", "{call:?}");
        call.json()
    }

    /// What is on its screen, as soon as that is so.
    fn screen(&self, is_so: impl Fn(&[&str]) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let call = self.verb("read", &["--screen"]);
            call.assert_code(0);
            let text = call.stdout_text();
            if is_so(&text.lines().collect::<Vec<_>>()) {
                return text;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "the screen is still {text}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn attach(&self, rows: u16, cols: u16) -> Terminal {
        Terminal::start(self.workspace.verb("shell attach", &[&self.id]), rows, cols)
    }

    fn state(&self) -> Value {
        let listed = self.workspace.verb("shell list", &["--json"]).finish().json();
        let shells = listed["shells"].as_array().cloned().unwrap_or_default();
        shells.into_iter().find(|shell| shell["shell"] == *self.id).unwrap_or_default()
    }
}

#[test]
fn a_session_is_held_by_calls_that_come_and_go() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    let shell = Shell::open(&workspace, &["--cwd", "/tmp", "--env", "A=b c"]);
    assert_eq!(shell.id, "s1");
    let cursor = shell.enter("echo \"<$PWD|$A|$TERM|$HOME>\"; shopt -q login_shell && echo login; stty size");
    let seen = shell.wait_for(cursor, "^30 120$");
    let output = seen["output"].as_str().expect("text");
    assert!(output.contains("\n</tmp|b c|xterm-256color|/root>\n"), "{output}");
    assert!(output.contains("\nlogin\n"), "{output}");
    // State stays; a session in a program, read by its prompt.
    let cursor = shell.enter("python3");
    shell.wait_for(cursor, "^>>> $");
    let cursor = shell.enter("x = 6 * 7");
    let cursor = shell.wait_for(cursor, "^>>> $")["cursor"].as_u64().map_or(cursor, |next| next);
    let typed = shell.enter("print('answer', x)");
    assert!(typed >= cursor);
    shell.wait_for(typed, "^answer 42$");
    // An interrupt for what runs in the foreground, deep inside.
    let cursor = shell.enter("import subprocess; subprocess.run(['sleep', '1000'])");
    let running = || workspace.sh("pgrep -x sleep || true");
    let begun = Instant::now();
    while running().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no sleep");
    }
    shell.verb("signal", &[]).assert_code(0);
    shell.wait_for(cursor, "^KeyboardInterrupt$");
    assert_eq!(running(), "");
    // A key that is no letter: the end of input.
    let cursor = shell.write(&["--no-newline", "--input", "\u{4}"]);
    shell.wait_for(cursor, "# $");

    // What is waited for and does not come, or is not there.
    let cursor = shell.enter("echo quiet").to_string();
    let seen = shell.verb("read", &["--cursor", &cursor, "--plain", "--wait-for-idle-ms", "700"]);
    seen.assert_code(0).assert_stdout_has("\nquiet\n");
    shell.verb("read", &["--wait-for", "never", "--timeout-seconds", "1"]).assert_code(124);
    shell.verb("read", &["--wait-for", "("]).assert_refused(2, &["--wait-for"]);
    workspace.verb("shell read", &["s7"]).finish().assert_refused(1, &["no shell s7", "s1"]);

    // It ended, and is still read; its end is told to who waits.
    let cursor = shell.enter("exit 7").to_string();
    shell.verb("read", &["--cursor", &cursor, "--wait-for", "never"]).assert_code(1).assert_stderr_has("exited with 7");
    assert_eq!((&shell.state()["state"], &shell.state()["exit_code"]), (&json!("exited"), &json!(7)));
    shell.verb("read", &["--plain"]).assert_code(0).assert_stdout_has("answer 42\n");
    shell.verb("write", &["--input", "x"]).assert_refused(1, &["s1", "code 7"]);
    shell.verb("close", &[]).assert_code(0);
    assert_eq!(shell.state(), Value::Null);
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_screen_is_what_a_person_sees() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    let shell = Shell::open(&workspace, &["--rows", "12", "--cols", "100"]);
    shell.enter("seq -f 'line %g' 100 > file; less file");
    let shown = shell.screen(|lines| lines.last().is_some_and(|last| last.starts_with("file")));
    let expected: String = (1..12).map(|number| format!("line {number}\n")).collect();
    assert!(shown.starts_with(&expected), "{shown}");
    shell.write(&["--no-newline", "--input", " "]);
    shell.screen(|lines| lines.first() == Some(&"line 12"));
    shell.write(&["--no-newline", "--input", "G"]);
    shell.screen(|lines| lines.contains(&"line 100") && lines.contains(&"(END)") || lines.last() == Some(&"(END)"));
    shell.write(&["--no-newline", "--input", "q"]);
    // The screen from before it is there again.
    shell.screen(|lines| lines.iter().any(|line| line.ends_with("less file")));
    shell.enter("top");
    let top = shell.screen(|lines| lines.first().is_some_and(|line| line.starts_with("top - ")) && lines.len() > 7);
    assert!(top.lines().count() <= 12 && top.starts_with("top - ") && top.contains("PID USER"), "{top}");
    shell.write(&["--no-newline", "--input", "q"]);
    let json = shell.verb("read", &["--screen", "--json"]).json();
    assert_eq!(json["screen"].as_array().map(Vec::len), Some(12));
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_model_has_a_session_by_tools() {
    let (home, project) = (Home::shared(), tempfile::tempdir().expect("a temporary directory"));
    std::fs::write(project.path().join("token"), "hunter2-hunter2").expect("our own directory");
    let flags = ["--profile", "workspace-full"];
    let mut host = ChatHost::start(&home, project.path(), &flags);
    let secret = format!("TOKEN={}", project.path().join("token").display());
    let workspace = Workspace::create(&home, &["--secret-file", &secret]);
    let id = workspace.id.as_str();
    let opened = host.tool("shell_open", json!({"workspace": id, "cols": 90, "secret_env": {"TOK": "TOKEN"}}));
    let (record, shell) = (opened.record(), "s1");
    assert_eq!((&record["shell"], &record["cols"], &record["by"]), (&json!("s1"), &json!(90), &json!("test-host")));
    host.tool("shell_read", json!({"workspace": id, "shell": shell, "wait_for": "# $", "wait_seconds": 40}));
    let mut enter = |input: &str, wait_for: &str| {
        let typed = host.tool("shell_write", json!({"workspace": id, "shell": shell, "input": input}));
        let cursor = typed.record()["cursor"].clone();
        let read = json!({"workspace": id, "shell": shell, "cursor": cursor, "wait_for": wait_for, "wait_seconds": 40});
        host.tool("shell_read", read).text().to_owned()
    };
    let seen = enter("echo \"<$TOK>\"; python3", "^>>> $");
    assert!(seen.starts_with("shell s1 [running, wait_for matched; go on with cursor "), "{seen}");
    assert!(seen.contains("<[secret TOKEN]>") && !seen.contains("hunter2"), "{seen}");
    // Of very much both ends are shown, and what was waited for is in it.
    let seen = enter("for i in range(20000): print('line', i)\n", "^line 19999\n>>> $");
    assert!(seen.contains("\nline 3\n") && seen.ends_with("line 19999\n>>> "), "{seen}");
    assert!(seen.len() < 20_000 && seen.contains("left out; shell_read with cursor"), "{}", seen.len());
    assert!(enter("import time; time.sleep(0.1); print('screen' + 'shot')", "^screenshot\n>>> $").contains("matched"));
    let screen = host.tool("shell_read", json!({"workspace": id, "shell": shell, "screen": true}));
    assert!(screen.text().contains("\nscreenshot\n>>>"), "{}", screen.text());
    host.tool("shell_write", json!({"workspace": id, "shell": shell, "input": "time.sleep(1000)"}));
    host.tool("shell_signal", json!({"workspace": id, "shell": shell}));
    let read = json!({"workspace": id, "shell": shell, "wait_for": "KeyboardInterrupt", "wait_seconds": 40});
    assert!(host.tool("shell_read", read).text().contains("wait_for matched"));
    assert_eq!(host.tool("workspace_status", json!({"workspace": id})).record()["running_shells"], json!(["s1"]));
    let mut refused = |tool: &str, more: Value, words: &[&str]| {
        let mut arguments = json!({"workspace": id, "shell": shell});
        arguments.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        host.refused(tool, arguments, words);
    };
    refused("shell_read", json!({"wait_for": "("}), &["wait_for", "unclosed group"]);
    refused("shell_read", json!({"shell": "s9"}), &["no shell s9", "s1"]);
    refused("shell_signal", json!({"signal": "STOP"}), &["HUP, INT, TERM or KILL"]);
    refused("shell_write", json!({"input": "x".repeat(70_000)}), &["65535", "workspace_file_write"]);
    host.tool("shell_close", json!({"workspace": id, "shell": shell}));
    host.refused("shell_read", json!({"workspace": id, "shell": shell}), &["no shell s1", "shell_open"]);
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_terminal_is_attached_and_given_back() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    let shell = Shell::open(&workspace, &[]);
    let cursor = shell.enter("echo before");
    shell.wait_for(cursor, "^before$");

    let mut terminal = shell.attach(31, 97);
    let before = terminal.modes();
    // What is on the screen comes first.
    terminal.wait_for("before");
    terminal.type_in(b"stty size\r");
    terminal.wait_for("31 97");
    terminal.resize(41, 83);
    let begun = Instant::now();
    while !terminal.shown().contains("41 83") {
        assert!(begun.elapsed() < Duration::from_secs(60), "its size is not followed: {}", terminal.shown());
        terminal.type_in(b"stty size\r");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_ne!(terminal.modes(), before, "the terminal is raw while the shell has it");
    // A second one, and a call, see the same.
    let mut second = shell.attach(41, 83);
    second.wait_for("41 83");
    second.type_in(b"echo from-$((1+1))\r");
    terminal.wait_for("from-2");
    assert_eq!(shell.state()["attached"], 2);
    terminal.type_in(b"\x1d");
    terminal.wait_for("left shell s1");
    terminal.wait().assert_code(0);
    assert_eq!(terminal.modes(), before);

    // A full-screen program is left as it is, and the terminal is put right whatever ends pyro.
    second.type_in(b"less /etc/passwd\r");
    second.wait_for("root:x:0:0");
    for signal in [Signal::HUP, Signal::TERM] {
        let mut third = shell.attach(41, 83);
        third.wait_for("root:x:0:0");
        third.signal(signal);
        // The screen is taken back, too.
        third.wait_for("\x1b[?1047l");
        assert_ne!(third.wait().code, Some(0));
        assert_eq!(third.modes(), before, "after {signal:?}");
    }
    second.type_in(b"qexit 5\r");
    second.wait().assert_code(5);
    assert_eq!(second.modes(), before);
    shell.attach(41, 83).wait().assert_code(1);
    workspace.verb("shell attach", &["s1"]).finish().assert_refused(2, &["no terminal"]);
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn shells_end_with_their_machine_and_say_why() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    let open = || Shell::open(&workspace, &[]);
    let check = |shell: &Shell<'_>, reason: &str| {
        let state = shell.state();
        assert_eq!(state["state"], "gone", "{state}");
        assert!(state["reason"].as_str().is_some_and(|told| told.contains(reason)), "{state}");
        shell.verb("read", &["--plain"]).assert_code(0).assert_stdout_has("mark\n");
    };
    let marked = || {
        let shell = open();
        let cursor = shell.enter("echo mark");
        shell.wait_for(cursor, "^mark$");
        shell
    };
    let reset = marked();
    let mut terminal = reset.attach(20, 60);
    terminal.wait_for("mark");
    workspace.verb("reset", &[]).finish().assert_code(0);
    assert_ne!(terminal.wait().code, Some(0));
    check(&reset, "was reset");

    let killed = marked();
    workspace.kill("supervisor_pid");
    check(&killed, "killed");
    killed.verb("read", &["--screen"]).assert_refused(1, &["screen", "without --screen"]);
    workspace.verb("start", &[]).finish().assert_code(0);
    check(&killed, "killed");

    let lost = marked();
    workspace.kill("machine_pid");
    let begun = Instant::now();
    while workspace.status()["state"] != "failed" {
        assert!(begun.elapsed() < Duration::from_secs(60), "its end is not noticed");
    }
    check(&lost, "machine was lost");
    workspace.verb("start", &[]).finish().assert_code(0);

    // What is closed ends with everything in it; numbers are not used again.
    let closed = marked();
    assert_eq!(closed.id, "s4");
    closed.enter("sleep 1000 & sleep 1000");
    let sleeps = || workspace.sh("pgrep -c -x sleep || true").trim().to_owned();
    let begun = Instant::now();
    while sleeps() != "2" {
        assert!(begun.elapsed() < Duration::from_secs(60), "no sleep");
    }
    closed.verb("close", &[]).assert_code(0);
    assert_eq!(sleeps(), "0");
    let stopped = marked();
    assert_eq!((stopped.id.as_str(), &workspace.status()["running_shells"]), ("s5", &json!(["s5"])));
    workspace.verb("stop", &[]).finish().assert_code(0);
    check(&stopped, "its user stopped it");
    stopped.verb("close", &[]).assert_code(0);
    stopped.verb("read", &[]).assert_refused(1, &["no shell s5"]);
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_flood_is_bounded_and_holds_up_nobody() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &[]);
    let shell = Shell::open(&workspace, &[]);
    let other = Shell::open(&workspace, &[]);
    shell.enter("yes 'a line of a flood that never ends'");
    let begun = Instant::now();
    let mut rounds = 0;
    let printed = || shell.state()["printed_bytes"].as_u64().expect("a number");
    while begun.elapsed() < Duration::from_secs(30) || printed() < 20 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(300), "{} bytes are no flood", printed());
        rounds += 1;
        workspace.exec(&["true"]).finish().assert_code(0);
        let cursor = other.enter(&format!("echo round-$(({rounds}+0))"));
        other.wait_for(cursor, &format!("^round-{rounds}$"));
        shell.verb("read", &["--screen"]).assert_code(0).assert_stdout_has("a line of a flood");
    }
    assert!(rounds > 2);
    let status = workspace.status();
    let pid = status["supervisor_pid"].as_u64().expect("a process");
    let supervisor = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let agent = workspace.sh("cat /proc/1/status");
    for (who, status) in [("supervisor", supervisor), ("agent", agent)] {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(kib < 64 * 1024, "the {who} had {kib} KiB at its peak");
    }
    // The oldest is gone, and it is said how much; the flood is interrupted by a key of one who is attached.
    let seen = shell.verb("read", &["--json", "--max-chars", "1000"]).json();
    assert!(seen["missing_bytes"].as_u64().is_some_and(|missing| missing > 1 << 20), "{seen}");
    let mut terminal = shell.attach(30, 90);
    terminal.wait_for("a line of a flood");
    terminal.type_in(b"\x03");
    terminal.type_in(b"echo still-$((40+2))\r");
    terminal.wait_for("still-42");
    terminal.type_in(b"\x1d");
    terminal.wait().assert_code(0);
    workspace.delete();
    home.assert_nothing_left();
}
