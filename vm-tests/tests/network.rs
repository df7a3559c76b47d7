//! Networks of guests: none, one that reaches what was opened, and what is refused in it. Nothing here is sent beyond this
//! machine's loopback: what would be is refused before a socket is opened, which is what is looked at.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use serde_json::json;
use vm_tests::http::Server;
use vm_tests::mcp::ChatHost;
use vm_tests::{DEBIAN, Home, Pyro, Workspace};

/// Bytes that a server here gives to whoever connects.
const SERVED_BYTES: usize = 8 << 20;

/// Tries a few ways out, one a line: what, and the error it met.
const WAYS_OUT: &str = r#"
import socket, time
def way(name, do):
    began = time.monotonic()
    try:
        do()
        result = "reached"
    except OSError as error:
        result = error.__class__.__name__ if not error.errno else str(error.errno)
    print(name, result, "quick" if time.monotonic() - began < 5 else "slow")
def tcp(address):
    return lambda: socket.create_connection((address, 80), timeout=20)
def udp(address):
    def do():
        talk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        talk.settimeout(20)
        talk.connect((address, 53))
        talk.send(b"a question of my own")
        talk.recv(100)
    return do
for address in ["10.0.0.1", "192.168.1.1", "169.254.169.254", "1.1.1.1", "192.0.2.1", "fd00::1"]:
    way(address, tcp(address))
way("dns", udp("8.8.8.8"))
way("name", lambda: socket.getaddrinfo("elsewhere.example", 80))
"#;

/// A server of this machine's loopback that gives everyone the same bytes.
fn server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                drop(stream.read(&mut [0; 4096]));
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {SERVED_BYTES}\r\n\r\n");
                drop(stream.write_all(head.as_bytes()));
                drop(stream.write_all(&vec![b'x'; SERVED_BYTES]));
            });
        }
    });
    port
}

#[test]
fn without_a_network_there_is_no_device() {
    let home = Home::shared();
    let outcome = home.run(&["sh", "-c", "ls /sys/class/net; curl -sS http://10.0.0.1/"]).finish();
    outcome.assert_code(7).assert_stdout("lo\n");
    home.pyro(&["run", "--allow-host", "10.0.0.1", "debian:12", "--", "true"])
        .finish()
        .assert_code(2)
        .assert_stderr_has("the network is off");
    home.assert_nothing_left();
}

#[test]
fn a_guest_reaches_what_was_opened_and_hears_at_once_of_the_rest() {
    let home = Home::shared();
    let port = server();
    let opened = format!("host.pyro.internal:{port}");
    let flags = ["--network-policy", "egress", "--allow-host", &opened, "--allow-domain", "allowed.example"];
    let workspace = Workspace::create(&home, &flags);
    let fetch = format!("curl -sS http://{opened}/ | wc -c");
    let fetched = format!("{SERVED_BYTES}\n");
    assert_eq!(workspace.sh(&fetch), fetched);

    let ways = workspace.exec(&["python3", "-c", WAYS_OUT]).finish();
    let expected = [
        "10.0.0.1 111 quick",
        "192.168.1.1 111 quick",
        "169.254.169.254 111 quick",
        "1.1.1.1 111 quick",
        "192.0.2.1 111 quick",
        "fd00::1 111 quick",
        "dns 113 quick",
        "name -2 quick",
    ];
    ways.assert_code(0).assert_stdout(expected.map(|line| format!("{line}\n")).concat());
    let opens = format!("(private address); pyro workspace update {} --allow-host 10.0.0.1:80 opens it", workspace.id);
    ways.assert_stderr_has(&format!("the network refused tcp 10.0.0.1:80 {opens}"));
    let told = workspace.verb("exec", &["--json", "--", "python3", "-c", WAYS_OUT]).finish().json();
    let refusal =
        told["network_refusals"].as_array().and_then(|list| list.iter().find(|one| one["to"] == "10.0.0.1:80"));
    assert_eq!(refusal.map(|one| &one["opened_by"]), Some(&"allow-host 10.0.0.1:80".into()), "{told}");

    let status = workspace.status();
    assert_eq!(status["network"]["policy"], "egress");
    let traffic = &status["traffic"];
    assert!(traffic["in_bytes"].as_u64() >= Some(SERVED_BYTES as u64), "{traffic}");
    let rule_of = |to: &str| {
        let refusals = traffic["refusals"].as_array().cloned().unwrap_or_default();
        let found = refusals.into_iter().find(|refusal| refusal["to"] == to);
        found.map(|refusal| refusal["rule"].as_str().unwrap_or_default().to_owned())
    };
    for (to, rule) in [
        ("10.0.0.1:80", "private address"),
        ("169.254.169.254:80", "metadata address"),
        ("1.1.1.1:80", "outside the allowed domains"),
        ("8.8.8.8:53", "outside the allowed domains"),
        ("elsewhere.example", "outside the allowed domains"),
    ] {
        assert_eq!(rule_of(to).as_deref(), Some(rule), "{traffic}");
    }
    let crossings = workspace.verb("crossings", &["--json"]).finish();
    crossings.assert_code(0);
    let text = String::from_utf8_lossy(&crossings.stdout).into_owned();
    assert!(
        text.contains("connection") && text.contains("private address") && text.contains("host.pyro.internal"),
        "{text}"
    );

    // Another machine of the template has the network anew.
    workspace.verb("reset", &[]).finish().assert_code(0);
    assert_eq!(workspace.sh(&fetch), fetched);
    assert_eq!(workspace.sh("ls /sys/class/net; cat /etc/resolv.conf"), "eth0\nlo\nnameserver 192.0.2.1\n");
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_run_with_a_network_tells_what_was_refused() {
    let home = Home::shared();
    let opened = format!("host.pyro.internal:{}", server());
    let script = format!("curl -sS http://{opened}/ | wc -c; curl -sS -m 20 http://10.0.0.1/");
    let flags = ["--network", "egress", "--allow-host", &opened];
    let outcome = home.run_with(&flags, &["sh", "-c", &script]).finish();
    outcome
        .assert_code(7)
        .assert_stdout(format!("{SERVED_BYTES}\n"))
        .assert_stderr_has("the network refused tcp 10.0.0.1:80 (private address); --allow-host 10.0.0.1:80 opens it");
    home.assert_nothing_left();
}

/// Connects, and tells what becomes of the connection.
const STAYS: &str = r#"
import socket, sys
talk = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
try:
    talk.recv(1)
    print("ended")
except ConnectionResetError:
    print("broken off")
"#;

#[test]
fn what_a_workspace_reaches_is_changed_while_it_runs() {
    let home = Home::shared();
    let port = server();
    let opened = format!("host.pyro.internal:{port}");
    let workspace = Workspace::create(&home, &["--network-policy", "egress"]);
    let update = |flags: &[&str]| {
        let outcome = workspace.verb("update", flags).finish();
        outcome.assert_code(0);
        outcome
    };
    let fetch = format!("curl -sS http://{opened}/ | wc -c");
    workspace.exec(&["curl", "-sS", &format!("http://{opened}/")]).finish().assert_code(6);
    update(&["--allow-host", &opened]).assert_stdout_has(&format!("egress, also {opened}"));
    assert_eq!(workspace.sh(&fetch), format!("{SERVED_BYTES}\n"));

    // What stands ends with the rule that let it through.
    let mut staying = workspace.exec(&["python3", "-c", STAYS, "host.pyro.internal", &port.to_string()]).start();
    staying.wait_for_stdout("connected");
    update(&["--clear-allow-host", &opened]);
    staying.wait().assert_code(0).assert_stdout("connected\nbroken off\n");

    // Ports are published as long as the policy lets them be.
    update(&["--network-policy", "egress+published-ports"]);
    workspace.verb("port add", &["8000"]).finish().assert_code(0);
    update(&["--network-policy", "egress"]);
    assert_eq!(workspace.verb("port list", &["--json"]).finish().json()["ports"], json!([]));

    // Off counts at once, and the device goes with the machine; a device comes with the next one.
    update(&["--network-policy", "off"]);
    workspace.exec(&["curl", "-sS", "-m", "20", "http://1.1.1.1/"]).finish().assert_code(7);
    let refusals = workspace.status()["traffic"]["refusals"].to_string();
    assert!(refusals.contains("the network was turned off"), "{refusals}");
    workspace.verb("reset", &[]).finish().assert_code(0);
    assert_eq!(workspace.sh("ls /sys/class/net"), "lo\n");
    update(&["--network-policy", "egress", "--allow-host", &opened])
        .assert_stdout_has("from the next start or reset on");
    assert_eq!(workspace.status()["network"]["at_next_start"], true);
    assert_eq!(workspace.sh("ls /sys/class/net"), "lo\n");
    workspace.verb("reset", &[]).finish().assert_code(0);
    assert_eq!(workspace.sh(&fetch), format!("{SERVED_BYTES}\n"));
    assert_eq!(workspace.status()["network"]["at_next_start"], json!(null));

    let crossings = workspace.verb("crossings", &[]).finish().stdout_text();
    for change in [format!("egress -> egress, also {opened}"), "egress -> off".to_owned()] {
        assert!(crossings.contains(&change), "no {change:?} in {crossings}");
    }
    assert_eq!(workspace.status()["crossings"]["counts"]["policy_change"], 6);
    workspace.verb("update", &["--clear-allow-domain", "a.example"]).finish().assert_refused(2, &["no rule"]);
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_proxy_of_the_host_is_offered_without_its_credentials() {
    let home = Home::shared();
    let proxy = Server::start();
    proxy.put("/file", "by the proxy");
    let inside = proxy.url().replace("127.0.0.1", "host.pyro.internal");
    let with_credentials = proxy.url().replace("http://", "http://me:s3cr3t@");
    let with_proxy = |pyro: Pyro| {
        let pyro = pyro.env("http_proxy", &with_credentials).env("https_proxy", &with_credentials);
        pyro.env("no_proxy", ".corp.example")
    };
    let script = "env | grep -i proxy | sort; curl -sS http://anywhere.example/file";
    let expected = format!(
        "HTTPS_PROXY={inside}\nHTTP_PROXY={inside}\nNO_PROXY=.corp.example,localhost,127.0.0.1,::1\n\
         http_proxy={inside}\nhttps_proxy={inside}\nno_proxy=.corp.example,localhost,127.0.0.1,::1\nby the proxy"
    );
    let flags = ["--network", "egress", "--offer-proxy"];
    let outcome = with_proxy(home.run_with(&flags, &["sh", "-c", script])).finish();
    outcome.assert_code(0).assert_stdout(&expected).assert_stderr_has("without its credentials");
    assert_eq!(proxy.requests()[0].target, "http://anywhere.example/file");

    let create = ["workspace", "create", DEBIAN, "--id-only", "--network-policy", "egress", "--offer-proxy"];
    let created = with_proxy(home.pyro(&create)).finish();
    created.assert_code(0);
    let workspace = Workspace::known(&home, created.stdout_text().trim());
    assert_eq!(workspace.sh(script), expected);
    let service = "env > /root/seen; mv /root/seen /root/env; sleep 300";
    let flags = ["probe", "--ready-file", "/root/env", "--", "sh", "-c", service];
    workspace.verb("service start", &flags).finish().assert_code(0);
    assert_eq!(workspace.sh("grep -ci proxy= /root/env"), "6\n");
    assert_eq!(workspace.status()["network"]["proxy"]["without_credentials"], true);
    let crossings = workspace.verb("crossings", &[]).finish();
    crossings.assert_stdout_has(&format!("{inside} is offered to the guest"));
    let record = home.path().join("state/workspaces").join(&workspace.id).join("workspace.json");
    assert!(!std::fs::read_to_string(record).expect("it is there").contains("s3cr3t"));
    workspace.delete();

    let refused = |flags: &[&str], words: &str| {
        with_proxy(home.run_with(flags, &["true"])).finish().assert_refused(2, &[words]);
    };
    refused(&["--offer-proxy"], "the network is off");
    refused(&["--network", "egress", "--offer-proxy", "--allow-domain", "a.example"], "domains cannot be narrowed");
    let none = home.run_with(&["--network", "egress", "--offer-proxy"], &["true"]);
    let none = none.env("http_proxy", "").env("https_proxy", "").finish();
    none.assert_refused(2, &["no proxy to offer", "http_proxy"]);
    home.assert_nothing_left();
}

#[test]
fn a_model_hears_what_was_refused_and_opens_what_its_user_allowed() {
    let home = Home::shared();
    let opened = format!("host.pyro.internal:{}", server());
    let work = tempfile::tempdir().expect("a directory");
    let flags = ["--profile", "workspace-full", "--allow-host", &opened];
    let mut host = ChatHost::start(&home, work.path(), &flags);
    drop(host.tool("workspace_create", json!({"name": "n", "network_policy": "egress"})));
    let command = "curl -sS -m 20 http://10.0.0.1/; sleep 1; echo over";
    let begun = json!({"workspace": "n", "command": command, "wait_seconds": 0});
    drop(host.tool("workspace_exec", begun));
    let told = host.tool("workspace_exec_wait", json!({"workspace": "n", "exec_id": 1})).text().to_owned();
    let line = "[the network refused tcp 10.0.0.1:80 (private address); workspace_update with allow_hosts \
                [\"10.0.0.1:80\"] opens it, if the user allowed this server that host]\n";
    assert!(told.contains(line) && told.contains("over"), "{told}");
    // A command that ran at another time met none of it.
    let fetch = format!("curl -sS http://{opened}/ | wc -c");
    host.refused("workspace_update", json!({"workspace": "n", "allow_hosts": ["10.0.0.1:80"]}), &["did not allow"]);
    drop(host.tool("workspace_update", json!({"workspace": "n", "allow_hosts": [opened]})));
    let fetched = host.tool("workspace_exec", json!({"workspace": "n", "command": fetch})).text().to_owned();
    assert!(fetched.contains(&SERVED_BYTES.to_string()) && !fetched.contains("refused"), "{fetched}");

    // What a person made and closed stays so.
    home.pyro(&["workspace", "create", DEBIAN, "--name", "mine"]).finish().assert_code(0);
    let open = json!({"workspace": "mine", "network_policy": "egress"});
    host.refused("workspace_update", open, &["the user made", "pyro workspace update"]);
    drop(host.tool("workspace_update", json!({"workspace": "mine", "labels": {"a": "b"}})));
    for name in ["n", "mine"] {
        home.pyro(&["workspace", "delete", name, "--force"]).finish().assert_code(0);
    }
}
