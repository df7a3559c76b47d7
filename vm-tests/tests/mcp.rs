//! `pyro mcp serve`, as a chat host uses it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vm_tests::mcp::ChatHost;
use vm_tests::{Home, leftovers};

const SOON: Duration = Duration::from_secs(2);

/// A directory with a project in it.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("our own directory");
    write("calc.py", "def add(a, b):\n    return a - b\n");
    write("test_calc.py", "from calc import add\n\nassert add(2, 2) == 4, add(2, 2)\nprint('ok')\n");
    write(".gitignore", "__pycache__/\n");
    write(".env", "TOKEN=secret\n");
    dir
}

fn create(host: &mut ChatHost, arguments: Value) -> String {
    host.tool("workspace_create", arguments).record()["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_bug_is_found_mended_and_reset() {
    let (home, project) = (Home::shared(), project());
    let mut host = ChatHost::start(&home, project.path(), &[]);
    let made = host.tool("workspace_create", json!({"seed_path": ".", "name": "fix"}));
    assert_eq!(made.record()["made_by"]["host"], "test-host");
    assert!(made.text().contains(".env"), "what was left out is told: {}", made.text());

    let listed = host.tool("workspace_file_list", json!({"workspace": "fix"}));
    assert!(listed.text().contains("calc.py") && !listed.text().contains(".env"), "{}", listed.text());
    let found = host.tool("workspace_file_search", json!({"workspace": "fix", "pattern": "return"}));
    assert!(found.text().contains("calc.py:2:"), "{}", found.text());
    let run = json!({"workspace": "fix", "command": "python3 test_calc.py"});
    assert!(host.tool("workspace_exec", run.clone()).text().contains("[exit code 1 "));
    let read = host.tool("workspace_file_read", json!({"workspace": "fix", "path": "calc.py"}));
    assert!(read.text().contains("     2\t    return a - b"), "{}", read.text());
    let edit = json!({"workspace": "fix", "path": "calc.py", "old_text": "a - b", "new_text": "a + b"});
    assert_eq!(host.tool("workspace_file_edit", edit).record()["replaced"], 1);
    let passed = host.tool("workspace_exec", run);
    assert!(passed.text().contains("[exit code 0 ") && passed.text().ends_with("ok\n"), "{}", passed.text());

    host.refused("workspace_delete", json!({"workspace": "fix"}), &["never diffed or exported"]);
    let diff = host.tool("workspace_diff", json!({"workspace": "fix"}));
    assert!(diff.text().contains("-    return a - b\n+    return a + b\n"), "{}", diff.text());
    let export = json!({"workspace": "fix", "output_path": "fix.patch", "as_patch": true});
    assert_eq!(host.tool("workspace_export", export.clone()).record()["changed_paths"], 1);
    host.refused("workspace_export", export, &["fix.patch is there already"]);
    let patch = std::fs::read_to_string(project.path().join("fix.patch")).expect("it was exported");
    host.tool("workspace_reset", json!({"workspace": "fix"}));
    let stale = json!({"workspace": "fix", "patch": patch.replace("a - b", "a * b")});
    host.refused("workspace_patch_apply", stale, &["does not apply", "return a - b"]);
    let applied = host.tool("workspace_patch_apply", json!({"workspace": "fix", "patch": patch}));
    assert_eq!(applied.record()["files"][0]["path"], "calc.py");
    let taken = json!({"workspace": "fix", "path": "calc.py", "output_path": "mended.py"});
    host.tool("workspace_export", taken);
    let mended = std::fs::read_to_string(project.path().join("mended.py")).expect("it was exported");
    assert!(mended.contains("a + b"), "{mended}");
    host.tool("workspace_reset", json!({"workspace": "fix"}));
    assert!(host.tool("workspace_diff", json!({"workspace": "fix"})).text().starts_with("[nothing changed"));
    host.tool("workspace_delete", json!({"workspace": "fix"}));
    host.hang_up(SOON);
    home.assert_nothing_left();
}

#[test]
fn a_long_command_goes_on_and_a_cancelled_one_ends() {
    let (home, project) = (Home::shared(), project());
    let mut host = ChatHost::start(&home, project.path(), &[]);
    let id = create(&mut host, json!({}));
    let long = json!({"workspace": id, "command": "echo begun; sleep 4; echo done", "wait_seconds": 1});
    assert!(host.tool("workspace_exec", long).text().contains("still running"));
    let waited = host.tool("workspace_exec_wait", json!({"workspace": id, "exec_id": 1}));
    assert!(waited.text().contains("exited 0") && waited.text().ends_with("begun\ndone\n"), "{}", waited.text());

    let meta = json!({"progressToken": "p"});
    let call =
        json!({"name": "workspace_exec", "arguments": {"workspace": id, "command": "sleep 1000"}, "_meta": meta});
    let request = host.request("tools/call", call);
    std::thread::sleep(Duration::from_millis(4500));
    let asked = Instant::now();
    host.ask("ping", json!({}));
    assert!(asked.elapsed() < SOON, "a ping waits for a command");
    assert!(host.notices.iter().any(|notice| notice["method"] == "notifications/progress"), "{:?}", host.notices);
    host.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request}}));
    let gone =
        json!({"workspace": id, "command": "for i in $(seq 50); do pgrep -x sleep || exit 0; sleep 0.1; done; exit 9"});
    assert!(host.tool("workspace_exec", gone).text().contains("[exit code 0 "), "the cancelled command still runs");
    // The cancellation of a call that was answered long ago means nothing.
    host.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}));
    host.tool("workspace_delete", json!({"workspace": id, "discard": true}));
    host.hang_up(SOON);
    home.assert_nothing_left();
}

#[test]
fn large_output_is_cut_and_stays_readable() {
    let (home, project) = (Home::shared(), project());
    let mut host = ChatHost::start(&home, project.path(), &[]);
    let id = create(&mut host, json!({}));
    let flood = host.tool("workspace_exec", json!({"workspace": id, "command": "seq 1 400000"}));
    assert!(flood.text().chars().count() < 17_000 && flood.text().ends_with("\n399999\n400000\n"), "{}", flood.text());
    assert!(flood.text().contains("left out") && flood.text().contains("\n1\n2\n3\n"));
    let wait = |more: Value| {
        let mut arguments = json!({"workspace": id, "exec_id": 1});
        arguments.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        arguments
    };
    let found = host.tool("workspace_exec_wait", wait(json!({"pattern": "^123456$"})));
    assert!(found.text().ends_with("123456: 123456\n"), "{}", found.text());
    let page = host.tool("workspace_exec_wait", wait(json!({"cursor": 1_000_000, "max_chars": 300})));
    assert!(page.text().contains("go on with cursor 1000"), "{}", page.text());
    let odd = json!({"workspace": id, "command": r"printf '\377\033[31mred\033[0m\n'"});
    assert!(host.tool("workspace_exec", odd).text().ends_with("\u{fffd}red\n"));
    host.tool("workspace_delete", json!({"workspace": id, "discard": true}));
    host.hang_up(SOON);
}

#[test]
fn a_workspace_outlives_its_server_and_the_next_one_finds_it() {
    let (home, project) = (Home::shared(), project());
    let mut host = ChatHost::start(&home, project.path(), &[]);
    let id = create(&mut host, json!({"name": "stays"}));
    host.tool("workspace_exec", json!({"workspace": id, "command": "echo kept > file"}));
    host.kill();
    let mut host = ChatHost::start(&home, project.path(), &[]);
    let listed = host.tool("workspace_list", json!({}));
    assert_eq!(listed.record()["workspaces"][0]["id"], json!(id));
    // One that was stopped meanwhile is started again, and its user is told.
    home.pyro(&["workspace", "stop", "stays"]).finish().assert_code(0);
    let read = host.tool("workspace_exec", json!({"workspace": "stays", "command": "cat file"}));
    assert!(read.text().contains("had stopped") && read.text().ends_with("kept\n"), "{}", read.text());
    home.pyro(&["workspace", "logs", "stays"]).finish().assert_code(0);
    host.tool("workspace_delete", json!({"workspace": id, "discard": true}));
    host.hang_up(SOON);
    home.assert_nothing_left();
}

/// How long a server may take to see that its host was killed. It looks each second.
const NOTICED: Duration = Duration::from_secs(10);

#[test]
fn a_server_whose_host_is_killed_ends_and_its_workspace_stays() {
    let (home, project) = (Home::shared(), project());
    // Both ends of its pipes stay open: others may hold them, as a terminal or another child of the host does.
    let mut host = ChatHost::through(&home, project.path(), &[], &["sh", "-c", "exec 3<&0; \"$@\" <&3 & wait", "sh"]);
    host.greet();
    let id = create(&mut host, json!({"name": "stays"}));
    host.tool("workspace_exec", json!({"workspace": id, "command": "echo kept > file"}));
    let long = json!({"workspace": id, "command": "sleep 1000", "wait_seconds": 1});
    assert!(host.tool("workspace_exec", long).text().contains("still running"));
    let call = host
        .request("tools/call", json!({"name": "workspace_exec_wait", "arguments": {"workspace": id, "exec_id": 2}}));
    let servers = leftovers::descendants(host.server_pid());
    let [server] = servers[..] else { panic!("there is one server: {servers:?}") };
    leftovers::kill(host.server_pid());
    // A process that is gone and was not waited for has no arguments any more.
    let lives = || std::fs::read(format!("/proc/{server}/cmdline")).is_ok_and(|words| !words.is_empty());
    let begun = Instant::now();
    while lives() {
        assert!(begun.elapsed() < NOTICED, "the server outlives its host, and answers call {call}");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(host);

    let mut host = ChatHost::start(&home, project.path(), &[]);
    let listed = host.tool("workspace_list", json!({}));
    assert_eq!(
        (&listed.record()["workspaces"][0]["id"], &listed.record()["workspaces"][0]["state"]),
        (&json!(id), &json!("running"))
    );
    // What the host had asked for is found again, as one is that ran longer than a call.
    let status = host.tool("workspace_status", json!({"workspace": id}));
    assert_eq!(status.record()["running_commands"], json!([2]));
    let killed = host.tool("workspace_exec_wait", json!({"workspace": id, "exec_id": 2, "kill": true}));
    assert!(killed.text().contains("killed"), "{}", killed.text());
    assert!(host.tool("workspace_exec", json!({"workspace": id, "command": "cat file"})).text().ends_with("kept\n"));
    host.tool("workspace_delete", json!({"workspace": id, "discard": true}));
    host.hang_up(SOON);
    home.assert_nothing_left();
}

#[test]
fn nothing_of_the_host_is_reached_but_what_was_allowed() {
    let (home, project) = (Home::shared(), project());
    let outside = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(outside.path().join("secret"), "secret").expect("our own directory");
    std::os::unix::fs::symlink(outside.path(), project.path().join("link")).expect("our own directory");
    let mut host = ChatHost::start(&home, project.path(), &[]);
    let out = outside.path().to_str().expect("text");
    for path in
        ["..", "/", "/etc", out, "link", "link/secret", "../../etc", "/proc/self/root", "/proc/self/cwd/../..", "~"]
    {
        host.refused("workspace_create", json!({"seed_path": path}), &["host path"]);
    }
    for (arguments, part) in [
        (json!({"seed_path": 7}), "seed_path"),
        (json!({"seed_secrets": true}), "unknown argument"),
        (json!({"network": "egress"}), "unknown argument"),
        (json!({"name": "../x"}), "the name"),
        (json!({"mem_mib": 1}), "mem_mib"),
        (json!({"environment": "docker.io/evil"}), "docker.io/evil"),
        (json!({"labels": {"a\u{0}b": "c"}}), "label"),
    ] {
        host.refused("workspace_create", arguments, &[part]);
    }
    let id = create(&mut host, json!({}));
    for path in ["../x", "link/x", "/etc/pyro-test", "src/../../x", "/proc/self/cwd/../x", ".", ""] {
        let export = json!({"workspace": id, "path": "/etc/hostname", "output_path": path});
        host.refused("workspace_export", export, &[]);
    }
    host.tool(
        "workspace_exec",
        json!({"workspace": id, "command": "ln -s /etc/passwd leak; ln -s ../../.. up; mkfifo pipe"}),
    );
    let export = json!({"workspace": id, "output_path": "all"});
    assert_eq!(host.tool("workspace_export", export).record()["left_out"], 3);
    assert_eq!(std::fs::read_dir(project.path().join("all")).expect("it was exported").count(), 0);
    host.tool("workspace_delete", json!({"workspace": id, "discard": true}));
    for word in ["", "../..", "\u{202e}", "ffffffffffff", &"x".repeat(100_000)] {
        host.refused("workspace_exec", json!({"workspace": word, "command": "true"}), &["workspace"]);
    }
    host.send_line(&format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":9999,\"method\":\"ping\",\"params\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    ));
    host.send_line("this is no JSON");
    assert!(host.ask("ping", json!({})).get("result").is_some(), "nonsense ended the session");
    assert_eq!(host.ask("no/such/method", json!({}))["error"]["code"], -32601);
    let listed = host.tool("workspace_list", json!({}));
    assert_eq!(listed.record()["workspaces"], json!([]));
    host.hang_up(SOON);
    home.assert_nothing_left();
}

#[test]
fn a_server_answers_before_anything_else_is_there_and_ends_with_its_host() {
    let home = Home::empty();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut host = ChatHost::silent(&home, dir.path(), &[]);
    assert_eq!(host.ask("server/frobnicate", json!({}))["error"]["code"], -32601);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "new-host", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let discovered = host.ask("server/discover", json!({"_meta": meta}));
    let versions = discovered["result"]["supportedVersions"].as_array().cloned().unwrap_or_default();
    assert!(versions.contains(&json!("2026-07-28")), "{discovered}");
    let tools = host.ask("tools/list", json!({"_meta": meta}));
    assert!(tools["result"]["tools"].as_array().is_some_and(|tools| tools.len() > 10), "{tools}");
    assert!(tools.to_string().len() < 26_000, "the list of tools is too long: {}", tools.to_string().len());
    host.hang_up(SOON);

    let mut host = ChatHost::start(&home, dir.path(), &["--profile", "vm-run"]);
    let tools = host.ask("tools/list", json!({}));
    assert_eq!(tools["result"]["tools"].as_array().map(Vec::len), Some(1));
    host.refused("vm_run", json!({"command": "true"}), &["debian:12"]);
    let pid = rustix::process::Pid::from_raw(host.server_pid().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
    host.wait_for_end(SOON);
    home.assert_nothing_left();
}
