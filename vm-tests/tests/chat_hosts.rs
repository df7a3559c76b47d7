//! Claude Code, Codex in both of its ways to call tools, and OpenCode, each with pyro in it: they connect, list, and do the work.
//!
//! `make smoke-hosts` installs them and runs this; `make test` does not, since they are a gigabyte. Each is driven by a scripted
//! model on the loopback, with its own rules about what may be called without asking in force. What the model was shown is kept
//! in `target/smoke-hosts/`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vm_tests::hosts::{Host, HostUser, Session, Shown, Start};
use vm_tests::mcp::ChatHost;
use vm_tests::{Home, long_command_seconds};

const PROMPT: &str =
    "The check in this project fails. Use a pyro workspace of it: find out why, mend it, show me the patch.";

/// How a host says that it did not show all of a result.
const CUT_BY_HOST: [&str; 6] = [
    "tokens truncated",
    "truncated output",
    "persisted-output",
    "exceeds maximum allowed",
    "Full output saved",
    "bytes truncated",
];

#[test]
fn a_real_claude_code_does_the_work() {
    check(Host::ClaudeCode);
}

#[test]
fn a_real_codex_with_functions_does_the_work() {
    check(Host::CodexFunctions);
}

#[test]
fn a_real_codex_with_scripts_does_the_work() {
    check(Host::CodexScripts);
}

#[test]
fn a_real_opencode_does_the_work() {
    check(Host::Opencode);
}

fn check(host: Host) {
    let user = HostUser::new(host);
    let write = |name: &str, bytes: &[u8]| std::fs::write(user.project.join(name), bytes).expect("our own directory");
    write("calc.py", b"def add(a, b):\n    return a - b\n");
    write("check.py", b"from calc import add\n\nassert add(2, 2) == 4, add(2, 2)\nprint('ok')\n");
    write("latin.txt", b"caf\xe9 \xa7\n");
    write(".gitignore", b"__pycache__/\n");
    user.pyro(&["host", "install", host.word()]).finish().assert_code(0).assert_stdout_has("answers with 19 tools");
    connects(host, &user);

    let mut chat = user.session("the work", PROMPT, &Start::default());
    assert!(chat.was_told("Disposable Linux virtual machines to work in instead of on the user's computer"));
    repro_fix_loop(&mut chat);
    assert_eq!(chat.known_tools().iter().cloned().collect::<Vec<_>>(), names_of_tools(), "{host:?}");
    let patch = std::fs::read_to_string(user.project.join("fix.patch")).expect("it was exported");
    assert!(patch.contains("-    return a - b\n+    return a + b\n"), "{patch}");
    odd_things(host, &mut chat);
    large_output(&mut chat);
    long_command(&mut chat);
    let ended = chat.finish("The sign was wrong; fix.patch has the fix.");
    assert_eq!(ended.code, Some(0), "{host:?}: {}{}", ended.stdout, ended.stderr);
    no_warning(&ended.stderr);

    user.pyro(&["workspace", "list"]).finish().assert_stdout_has("fix");
    later_sessions(host, &user);
    user.pyro(&["workspace", "delete", "fix", "--force"]).finish().assert_code(0);
    user.pyro(&["host", "remove", host.word()]).finish().assert_code(0);
    user.assert_nothing_left();
}

/// The host itself says that pyro answers.
fn connects(host: Host, user: &HostUser) {
    if matches!(host, Host::CodexFunctions | Host::CodexScripts) {
        // Codex lists without starting anything: that it connects is seen in the session.
        let listed = user.host_program(&["mcp", "list"]);
        assert!(String::from_utf8_lossy(&listed.stdout).contains("pyro"), "{listed:?}");
        return;
    }
    let listed = user.host_program(&["mcp", "list"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned() + &String::from_utf8_lossy(&listed.stderr);
    let line = text.lines().find(|line| line.contains("pyro")).unwrap_or_default();
    assert!(line.contains('✔') || line.contains('✓'), "{host:?}: {text}");
}

/// The names of the tools, as the server itself lists them.
fn names_of_tools() -> Vec<String> {
    let (home, dir) = (Home::empty(), tempfile::tempdir().expect("a temporary directory"));
    let mut host = ChatHost::start(&home, dir.path(), &[]);
    let listed = host.ask("tools/list", json!({}));
    let tools = listed["result"]["tools"].as_array().expect("a list").iter();
    let mut names: Vec<String> = tools.map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

/// A call that must succeed, and its whole text.
#[track_caller]
fn done(chat: &mut Session<'_>, tool: &str, arguments: Value) -> String {
    let shown = chat.call(tool, arguments);
    assert_ne!(shown.is_error, Some(true), "{tool}: {}", shown.text);
    assert!(!shown.text.starts_with("error: "), "{tool}: {}", shown.text);
    whole(&shown)
}

/// A call that must be refused, with the next step.
#[track_caller]
fn refused(host: Host, chat: &mut Session<'_>, tool: &str, arguments: Value, part: &str) {
    let shown = chat.call(tool, arguments);
    assert!(shown.is_error == Some(true) || !host.tells_errors(), "{tool}: {}", shown.text);
    assert!(shown.text.contains(part) && shown.text.contains("\nnext: "), "{tool}: {}", shown.text);
}

/// The text, of which the host cut nothing.
#[track_caller]
fn whole(shown: &Shown) -> String {
    for words in CUT_BY_HOST {
        assert!(!shown.text.contains(words), "the host cut a result: {}", shown.text);
    }
    shown.text.clone()
}

fn repro_fix_loop(chat: &mut Session<'_>) {
    let made = done(chat, "workspace_create", json!({"seed_path": ".", "name": "fix"}));
    let made: Value = serde_json::from_str(&made).unwrap_or_else(|error| panic!("no record ({error}): {made}"));
    assert_eq!(made["name"], "fix", "{made}");
    let listed = done(chat, "workspace_file_list", json!({"workspace": "fix"}));
    assert!(listed.contains("calc.py") && listed.contains("check.py"), "{listed}");
    let read = done(chat, "workspace_file_read", json!({"workspace": "fix", "path": "calc.py"}));
    assert!(read.contains("     2\t    return a - b"), "{read}");
    let run = json!({"workspace": "fix", "command": "python3 check.py"});
    let failed = done(chat, "workspace_exec", run.clone());
    assert!(failed.contains("[exit code 1 ") && failed.contains("AssertionError: 0"), "{failed}");
    let patch =
        "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n";
    done(chat, "workspace_patch_apply", json!({"workspace": "fix", "patch": patch}));
    let passed = done(chat, "workspace_exec", run);
    assert!(passed.contains("[exit code 0 ") && passed.ends_with("ok\n"), "{passed}");
    let diff = done(chat, "workspace_diff", json!({"workspace": "fix"}));
    assert!(diff.contains("-    return a - b\n+    return a + b\n"), "{diff}");
    done(chat, "workspace_export", json!({"workspace": "fix", "output_path": "fix.patch", "as_patch": true}));
}

/// A file that is no UTF-8, a path that is not there, arguments that are wrong.
fn odd_things(host: Host, chat: &mut Session<'_>) {
    let read = chat.call("workspace_file_read", json!({"workspace": "fix", "path": "latin.txt"}));
    assert!(read.text.contains("UTF-8") || read.text.contains("caf\u{fffd}"), "{}", read.text);
    let missing = json!({"workspace": "fix", "path": "no/such.txt"});
    refused(host, chat, "workspace_file_read", missing, "no/such.txt");
    refused(host, chat, "workspace_exec", json!({"workspace": "fix", "command": "true", "shell": "zsh"}), "shell");
    refused(host, chat, "workspace_create", json!({"seed_path": "/etc"}), "host path");
}

/// Three megabytes, of which the model is shown as much as any host lets through, and where to read the rest.
fn large_output(chat: &mut Session<'_>) {
    let flood = json!({"workspace": "fix", "command": "seq 1 460000", "max_chars": 36_000});
    let shown = done(chat, "workspace_exec", flood);
    assert!(shown.contains("\n1\n2\n3\n") && shown.ends_with("\n459999\n460000\n"), "{shown}");
    let count = |shown: &str| shown.lines().filter(|line| line.bytes().all(|byte| byte.is_ascii_digit())).count();
    let left_out = shown.lines().find_map(|line| line.split("left out").next().filter(|_| line.contains("left out")));
    let left_out: String = left_out.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    assert!(count(&shown) > 1000, "{} lines", count(&shown));
    assert!(!left_out.is_empty(), "{shown}");
    let exec_id = shown.split("exec ").nth(1).and_then(|rest| rest.split(|one: char| !one.is_ascii_digit()).next());
    let exec_id: u64 = exec_id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no exec id: {shown}"));
    let found =
        done(chat, "workspace_exec_wait", json!({"workspace": "fix", "exec_id": exec_id, "pattern": "^123456$"}));
    assert!(found.ends_with("123456: 123456\n"), "{found}");
}

/// A command that takes longer than any host waits for a call.
fn long_command(chat: &mut Session<'_>) {
    let seconds = long_command_seconds();
    let command = format!("for i in $(seq {seconds}); do echo tick $i; sleep 1; done; echo over");
    let begun = Instant::now();
    let call = json!({"workspace": "fix", "command": command, "timeout_seconds": 3000});
    let mut shown = done(chat, "workspace_exec", call);
    assert!(shown.contains("still running") && shown.contains("tick 1"), "{shown}");
    let exec_id = shown.split("exec_id ").nth(1).and_then(|rest| rest.split(|one: char| !one.is_ascii_digit()).next());
    let exec_id: u64 = exec_id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no exec id: {shown}"));
    while shown.contains("still running") {
        assert!(begun.elapsed() < Duration::from_secs(2 * seconds + 120), "it does not end: {shown}");
        shown = done(chat, "workspace_exec_wait", json!({"workspace": "fix", "exec_id": exec_id}));
    }
    assert!(begun.elapsed() >= Duration::from_secs(seconds));
    assert!(shown.contains("exited 0") && shown.ends_with("over\n"), "{shown}");
}

fn no_warning(stderr: &str) {
    for line in stderr.lines() {
        let line = line.to_lowercase();
        assert!(!line.contains("pyro") && !line.contains("mcp"), "the host warns: {stderr}");
    }
}

/// A call that is given up ends what it began. A host that is gone takes its server with it, and nothing else: the next
/// session finds the workspace and what runs in it.
fn later_sessions(host: Host, user: &HostUser) {
    let sleep = json!({"workspace": "fix", "command": "sleep 1000"});
    let mut chat = user.session("given up", "Wait.", &Start { gives_up: true });
    chat.begin("workspace_exec", &sleep);
    wait_until(user, true);
    let shown = chat.give_up();
    wait_until(user, false);
    if let Some(shown) = shown {
        assert!(shown.text.contains("timed out"), "{host:?}: {}", shown.text);
        let after = done(&mut chat, "workspace_exec", json!({"workspace": "fix", "command": "echo still here"}));
        assert!(after.ends_with("still here\n"), "{after}");
        assert_eq!(chat.finish("It was given up.").code, Some(0));
    } else {
        drop(chat);
    }
    for title in ["interrupted", "killed"] {
        let mut chat = user.session(title, "Wait.", &Start::default());
        let listed = done(&mut chat, "workspace_list", json!({}));
        assert!(listed.contains("\"name\":\"fix\"") && listed.contains("\"running\""), "{listed}");
        chat.begin("workspace_exec", &sleep);
        wait_until(user, true);
        let server = chat.server_pid().expect("the server runs");
        let begun = Instant::now();
        match title {
            "killed" => chat.kill(),
            _ => chat.interrupt(),
        };
        while std::path::Path::new(&format!("/proc/{server}/exe")).exists() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{host:?}: the server outlives its host");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let mut chat = user.session("afterwards", "What goes on?", &Start::default());
    let status = done(&mut chat, "workspace_logs", json!({"workspace": "fix"}));
    assert!(status.contains(" runs\n"), "{status}");
    let kill = json!({"workspace": "fix", "command": "pkill -x sleep; pgrep -x sleep || echo none"});
    assert!(done(&mut chat, "workspace_exec", kill).ends_with("none\n"));
    chat.finish("Nothing any more.");
}

/// Waits until something sleeps in the workspace, or nothing does.
#[track_caller]
fn wait_until(user: &HostUser, sleeping: bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let sleeps = || user.pyro(&["workspace", "exec", "fix", "--", "pgrep", "-x", "sleep"]).finish().code == Some(0);
    while sleeps() != sleeping {
        assert!(Instant::now() < deadline, "sleeping is not {sleeping}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
