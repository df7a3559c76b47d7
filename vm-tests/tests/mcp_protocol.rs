//! `pyro mcp serve` and a host that speaks badly: every message that somebody waits for is answered, nothing ends the
//! session but its end, and the server goes with its host. No guest is needed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vm_tests::mcp::ChatHost;
use vm_tests::{Home, leftovers};

const SOON: Duration = Duration::from_secs(5);

fn session() -> (Home, tempfile::TempDir, ChatHost) {
    let (home, dir) = (Home::empty(), tempfile::tempdir().expect("a temporary directory"));
    let host = ChatHost::start(&home, dir.path(), &[]);
    (home, dir, host)
}

/// A line, and the id and the code of the error that it is answered with, if it is.
type Case = (Vec<u8>, Option<(Value, i64)>);

/// Sends a line and looks at its answer. A ping behind it shows when there is none.
#[track_caller]
fn check(host: &mut ChatHost, line: &[u8], expected: Option<(Value, i64)>) {
    host.send_bytes(line);
    host.send_bytes(b"\n");
    let behind = host.request("ping", json!({}));
    let mut told = host.message();
    let shown = String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned();
    if let Some((id, code)) = expected {
        assert_eq!((&told["id"], &told["error"]["code"]), (&id, &json!(code)), "{shown}: {told}");
        let words = told["error"]["message"].as_str().unwrap_or_default();
        assert!(words.len() > 10 && words.len() < 400, "{shown}: no teaching words: {told}");
        told = host.message();
    }
    assert_eq!((&told["id"], &told["result"]), (&json!(behind), &json!({})), "{shown}: {told}");
}

#[test]
fn what_is_no_message_is_answered_and_ends_nothing() {
    let (home, _dir, mut host) = session();
    let deep = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
    let message = |id: &str, rest: &str| format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{rest}}}").into_bytes();
    let cases: Vec<Case> = vec![
        (b"this is no JSON".to_vec(), None),
        (b"{\"jsonrpc\":\"2.0\",\"id\":70,\"method\":\"ping\"".to_vec(), Some((json!(70), -32700))),
        (b"{\"jsonrpc\":\"2.0\",\"id\":71,\"method\":\"ping\",}".to_vec(), Some((json!(71), -32700))),
        (b"\xff\xfe\x00".to_vec(), None),
        (b"{\"jsonrpc\":\"2.0\",\"id\":72,\"method\":\"\xff\"}".to_vec(), Some((json!(72), -32700))),
        (b"   \t".to_vec(), None),
        (b"5".to_vec(), Some((Value::Null, -32600))),
        (b"null".to_vec(), Some((Value::Null, -32600))),
        (b"[]".to_vec(), Some((Value::Null, -32600))),
        (b"[{\"jsonrpc\":\"2.0\",\"id\":73,\"method\":\"ping\"}]".to_vec(), Some((Value::Null, -32600))),
        (b"{\"jsonrpc\":\"1.0\",\"id\":74,\"method\":\"ping\"}".to_vec(), Some((json!(74), -32600))),
        (b"{\"id\":75,\"method\":\"ping\"}".to_vec(), Some((json!(75), -32600))),
        (message("1.5", "\"method\":\"ping\""), Some((Value::Null, -32600))),
        (message("true", "\"method\":\"ping\""), Some((Value::Null, -32600))),
        (message("null", "\"method\":\"ping\""), Some((Value::Null, -32600))),
        (message("{}", "\"method\":\"ping\""), Some((Value::Null, -32600))),
        (message("99999999999999999999", "\"method\":\"ping\""), Some((Value::Null, -32600))),
        (message("76", "\"method\":7"), Some((json!(76), -32600))),
        (message("77", "\"method\":\"tools/list\",\"params\":[]"), Some((json!(77), -32600))),
        (message("78", "\"method\":\"tools/call\""), Some((json!(78), -32602))),
        (message("79", "\"method\":\"tools/call\",\"params\":{\"name\":7}"), Some((json!(79), -32602))),
        (
            message("80", "\"method\":\"tools/call\",\"params\":{\"name\":\"workspace_list\",\"arguments\":[1]}"),
            Some((json!(80), -32602)),
        ),
        (message("81", "\"method\":\"tools/call\",\"params\":{\"name\":\"no_such_tool\"}"), Some((json!(81), -32602))),
        (message("82", "\"method\":\"no/such/method\""), Some((json!(82), -32601))),
        (message("\"83\\u202e\"", "\"method\":\"resources/list/../../x\""), Some((json!("83\u{202e}"), -32601))),
        (message("84", "\"method\":\"prompts/get\",\"params\":{\"name\":\"no-such\"}"), Some((json!(84), -32602))),
        (message("85", &format!("\"method\":\"ping\",\"params\":{}", deep(10_000))), Some((json!(85), -32600))),
        (message("86", "\"result\":{}"), None),
        (message("87", "\"error\":{}"), None),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":404}}".to_vec(), None),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progress\":\"x\"}}".to_vec(), None),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/no-such\"}".to_vec(), None),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":5}".to_vec(), None),
    ];
    for (line, expected) in cases {
        check(&mut host, &line, expected);
    }
    // The id stands behind what is too long to be kept, as some clients write it.
    let long =
        [b"{\"method\":\"x\",\"params\":{\"a\":\"".as_slice(), &vec![b'x'; 50 << 20], b"\"},\"id\":99}"].concat();
    check(&mut host, &long, Some((json!(99), -32600)));
    host.hang_up(SOON);
    home.assert_nothing_left();
}

#[test]
fn a_deep_argument_and_an_id_used_twice_are_answered() {
    let (home, _dir, mut host) = session();
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    host.refused("workspace_list", json!({"labels": deep}), &["nested too deeply"]);
    let twice = json!({"jsonrpc": "2.0", "id": "twice", "method": "tools/call", "params": {"name": "workspace_list"}});
    host.send(&twice);
    host.send(&twice);
    assert_eq!(host.message()["id"], "twice");
    // Whether the second is answered as well cannot be told apart by anybody; what comes after it is.
    assert!(host.ask("ping", json!({})).get("result").is_some());
    host.hang_up(SOON);
    home.assert_nothing_left();
}

#[test]
fn before_the_session_everything_is_answered_and_nothing_ends_it() {
    let (home, dir) = (Home::empty(), tempfile::tempdir().expect("a temporary directory"));
    let mut host = ChatHost::silent(&home, dir.path(), &[]);
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    host.send(&cancel);
    assert_eq!(host.ask("server/frobnicate", json!({}))["error"]["code"], -32601);
    assert_eq!(host.ask("initialize", json!({}))["error"]["code"], -32602);
    assert_eq!(host.ask("tools/list", json!({}))["error"]["code"], -32602);
    host.send(&cancel);
    host.send(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(host.ask("server/frobnicate", json!({}))["error"]["code"], -32601);
    let unknown = json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2999-01-01", "io.modelcontextprotocol/clientCapabilities": {},
    }});
    assert!(host.ask("tools/list", unknown)["error"]["data"]["supported"].is_array());
    host.send(&cancel);
    assert!(host.ask("ping", json!({})).get("result").is_some());
    host.greet();
    assert!(host.ask("tools/list", json!({}))["result"]["tools"].is_array());
    host.hang_up(SOON);
    home.assert_nothing_left();
}

#[test]
fn half_a_line_at_the_end_of_input_is_nothing() {
    let (home, _dir, mut host) = session();
    host.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"workspace_cre");
    host.end_input();
    host.wait_for_end(SOON);
    home.assert_nothing_left();
}

#[test]
fn the_server_goes_with_its_host_though_its_input_stays_open() {
    let (home, dir) = (Home::empty(), tempfile::tempdir().expect("a temporary directory"));
    // A shell in between is the host; our own end of its input stays open when it is killed.
    let mut host = ChatHost::through(&home, dir.path(), &[], &["/bin/sh", "-c", "\"$@\"; exit", "sh"]);
    host.greet();
    let servers = leftovers::descendants(host.server_pid());
    assert_eq!(servers.len(), 1, "{servers:?}");
    let pid = rustix::process::Pid::from_raw(host.server_pid().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
    let begun = Instant::now();
    home.assert_nothing_left();
    // A second between two looks, and what a loaded machine takes.
    assert!(begun.elapsed() < SOON);

    let mut host = ChatHost::start(&home, dir.path(), &[]);
    host.stop_listening();
    // The thread that reads finds out with the next line.
    host.request("ping", json!({}));
    host.wait_for_end(SOON);
    home.assert_nothing_left();
}
