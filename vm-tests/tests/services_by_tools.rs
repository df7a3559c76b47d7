//! Services by the tools of a chat host: started, listed, followed, ended, refused; and the secrets that they are given and do not
//! show.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use vm_tests::mcp::ChatHost;
use vm_tests::{Home, Workspace};

const SOON: Duration = Duration::from_secs(5);

/// Nothing here takes this long, on however busy a host.
const PATIENCE: Duration = Duration::from_secs(120);

const VALUE: &str = "hunter2-hunter2-hunter2";

/// What the guest's web server answers at this port of the host.
fn get(port: u64, path: &str) -> String {
    let port = u16::try_from(port).expect("a port");
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("a published port");
    client.set_read_timeout(Some(PATIENCE)).expect("a limit");
    write!(client, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("asked");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("answered");
    answer
}

/// The position that an answer's first line goes on with.
#[track_caller]
fn cursor(text: &str) -> u64 {
    let (head, _) = text.split_once('\n').expect("a first line");
    let (_, rest) = head.split_once("go on with cursor ").unwrap_or_else(|| panic!("no cursor in {head}"));
    rest.trim_end_matches(']').parse().expect("a position")
}

/// A log read until it holds a text.
#[track_caller]
fn log_with(host: &mut ChatHost, arguments: &Value, text: &str) -> String {
    for _ in 0..600 {
        let log = host.tool("service_logs", arguments.clone()).text().to_owned();
        if log.contains(text) {
            return log;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the log never holds {text:?}");
}

#[test]
fn a_model_keeps_services_by_tools() {
    let (home, project) = (Home::shared(), tempfile::tempdir().expect("a temporary directory"));
    let token = project.path().join("token");
    std::fs::write(&token, VALUE).expect("our own directory");
    let secret = format!("TOKEN={}", token.display());
    let mut host = ChatHost::start(&home, project.path(), &["--profile", "workspace-full", "--secret-file", &secret]);
    host.tool("workspace_create", json!({"name": "shop", "network_policy": "egress+published-ports"}));
    let one = |name: &str| json!({"workspace": "shop", "name": name});

    let start = json!({
        "workspace": "shop", "name": "web", "secret_env": {"TOK": "TOKEN"}, "publish": ["8000"],
        "command": "echo \"token <$TOK>\"; exec python3 -u -m http.server --bind 127.0.0.1 8000",
        "ready_http": "http://localhost:8000/", "ready_timeout_seconds": 90,
    });
    let mut web = host.tool("service_start", start.clone()).record().clone();
    while web["state"] == "starting" {
        // A call answers within 45 s; a slow machine takes longer.
        web = host.tool("service_status", one("web")).record().clone();
    }
    assert_eq!((&web["state"], &web["ports"][0]["guest_port"]), (&json!("running"), &json!(8000)), "{web}");
    let port = web["ports"][0]["host_port"].as_u64().expect("a published port");
    assert!(get(port, "/").starts_with("HTTP/1.0 200"));
    let listed = host.tool("service_list", json!({"workspace": "shop"}));
    assert_eq!(listed.record()["services"][0]["name"], "web", "{}", listed.text());
    let ports = home.pyro(&["workspace", "port", "list", "shop", "--json"]).finish().json();
    assert_eq!((&ports["ports"][0]["service"], &ports["ports"][0]["host_port"]), (&json!("web"), &json!(port)));
    host.refused("service_start", start, &["service web runs already", "service_stop"]);

    // Its log: without what is secret, and read on from where one left off.
    let log = log_with(&mut host, &one("web"), "GET / ");
    assert!(log.starts_with("service web running [go on with cursor "), "{log}");
    assert!(log.contains("token <[secret TOKEN]>\n") && !log.contains(VALUE), "{log}");
    assert!(get(port, "/later").contains("404"));
    let mut later = one("web");
    later["cursor"] = cursor(&log).into();
    let later = log_with(&mut host, &later, "GET /later");
    assert!(!later.contains("token <"), "{later}");

    let stopped = host.tool("service_stop", one("web"));
    assert_eq!((&stopped.record()["state"], &stopped.record()["ports"]), (&json!("stopped"), &json!([])));
    assert!(TcpStream::connect(("127.0.0.1", u16::try_from(port).expect("a port"))).is_err());
    host.refused("service_stop", one("nobody"), &["no service 'nobody'", "web"]);

    ends(&mut host);
    very_much(&mut host);
    publishing(&mut host);
    host.tool("workspace_delete", json!({"workspace": "shop", "discard": true}));
    host.hang_up(SOON);
    home.assert_nothing_left();
}

/// One that crashes, and one that is never ready.
fn ends(host: &mut ChatHost) {
    let crash = json!({"workspace": "shop", "name": "crash", "command": "sleep 1; echo last words >&2; exit 7"});
    host.tool("service_start", crash);
    let crashed = loop {
        let now = host.tool("service_status", json!({"workspace": "shop", "name": "crash"}));
        if now.record()["state"] != "running" {
            break now.record().clone();
        }
    };
    assert_eq!((&crashed["state"], &crashed["exit_code"]), (&json!("exited"), &json!(7)), "{crashed}");
    let log = host.tool("service_logs", json!({"workspace": "shop", "name": "crash"}));
    assert!(
        log.text().starts_with("service crash exited") && log.text().ends_with("]\nlast words\n"),
        "{}",
        log.text()
    );
    let never = json!({
        "workspace": "shop", "name": "never", "command": "echo trying; sleep 1000", "ready_file": "/no/such",
        "ready_timeout_seconds": 1,
    });
    host.refused("service_start", never, &["service never did not become ready", "    trying", "service_logs"]);
}

/// Of a long log both ends are shown, and where what is between is read; there nothing is lost and nothing comes twice.
fn very_much(host: &mut ChatHost) {
    let chatty = json!({
        "workspace": "shop", "name": "chatty", "command": "seq -f 'line %06g' 20000; touch /tmp/done; exec sleep 1000",
        "ready_file": "/tmp/done", "ready_timeout_seconds": 40,
    });
    host.tool("service_start", chatty);
    let begin = json!({"workspace": "shop", "name": "chatty", "cursor": 0, "max_chars": 4000});
    let log = log_with(host, &begin, "\nline 020000\n");
    let (before, after) = log.split_once("[… bytes ").expect("the middle is left out");
    let place = after.split_once(' ').expect("where it begins").0.to_owned();
    assert!(after.contains(&format!("service_logs with cursor {place} shows them …]\n")), "{after}");
    let last_shown: u64 = before.lines().last().and_then(|line| line[5..].parse().ok()).expect("a whole line");
    let cursor: u64 = place.parse().expect("a position");
    let next = host.tool("service_logs", json!({"workspace": "shop", "name": "chatty", "cursor": cursor}));
    let first = next.text().lines().nth(1).expect("a line").to_owned();
    assert_eq!(first, format!("line {:06}", last_shown + 1));
}

/// Only a workspace that was made for it publishes.
fn publishing(host: &mut ChatHost) {
    host.tool("workspace_create", json!({"name": "closed", "network_policy": "egress"}));
    let start = json!({"workspace": "closed", "name": "web", "command": "exec sleep 1000", "publish": ["8000"]});
    host.refused(
        "service_start",
        start,
        &["network policy lets no port be published", "workspace_update with network_policy egress+published-ports"],
    );
    let listed = host.tool("service_list", json!({"workspace": "closed"}));
    assert_eq!(listed.record()["services"], json!([]), "it is not there at all");
    host.tool("workspace_delete", json!({"workspace": "closed", "discard": true}));
}

/// Fails if a file below a directory holds the value, but for disks, on which is what the guest wrote to them.
fn assert_nowhere(dir: &Path) -> usize {
    let mut looked = 0;
    for entry in std::fs::read_dir(dir).expect("it is there").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("it has a kind"));
        if kind.is_dir() {
            looked += assert_nowhere(&path);
        } else if kind.is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() < 1 << 20) {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
            assert!(!text.contains(VALUE), "{} holds the secret", path.display());
            looked += 1;
        }
    }
    looked
}

#[test]
fn a_service_is_given_secrets_and_shows_none() {
    let home = Home::shared();
    let work = tempfile::tempdir().expect("a temporary directory");
    let token = work.path().join("token");
    std::fs::write(&token, VALUE).expect("our own directory");
    let flag = format!("TOKEN={}", token.display());
    let policy = ["--network-policy", "egress+published-ports"];
    let workspace = Workspace::create(&home, &[&["--secret-file", &flag], &policy[..]].concat());
    // It has the value, and prints it in pieces, on both streams, and as base64.
    let script = r#"printf %s "$T" | sha256sum | cut -c1-8; echo "<$T>"; echo "$T" >&2; printf %s "$T" | base64; \
                    for part in 1 2; do printf %.11s "$T"; sleep 0.2; printf '%s\n' "${T#???????????}"; done; touch /tmp/said; exec sleep 1000"#;
    let start = ["keeper", "--secret-env", "TOKEN=T", "--ready-file", "/tmp/said", "--restart-on-start", "--"];
    workspace.verb("service start", &start).args(&["bash", "-c", script]).finish().assert_code(0);
    let shows_five = |log: &str| log.contains("<[secret TOKEN]>") && log.matches("[secret TOKEN]").count() >= 5;
    let log = workspace.verb("service logs", &["keeper"]).finish().stdout_text();
    assert!(shows_five(&log), "{log}");
    // Each run has it, though nothing of it is written down.
    assert_eq!(workspace.sh("rm /tmp/said"), "");
    workspace.verb("service restart", &["keeper"]).finish().assert_code(0);
    let log = workspace.verb("service logs", &["keeper"]).finish().stdout_text();
    assert!(shows_five(&log), "{log}");
    let status = workspace.verb("service status", &["keeper", "--json"]).finish().stdout_text();
    assert!(!status.contains(VALUE), "{status}");
    workspace
        .verb("service start", &["none", "--secret-env", "NOPE", "--", "true"])
        .finish()
        .assert_refused(1, &["NOPE"]);
    assert!(assert_nowhere(home.path()) > 5);
    workspace.delete();
    home.assert_nothing_left();
}
