//! Services and published ports, in real guests: servers of the guest's own Python, clients of this host.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vm_tests::{Home, Workspace};

/// Nothing here takes this long, on however busy a host.
const PATIENCE: Duration = Duration::from_secs(120);

/// An echo that serves many at once, ends each direction by itself, and reads on after the other side has ended.
const ECHO: &str = r#"
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512
print("echo listens", flush=True)
Server(("127.0.0.1", 7000), Echo).serve_forever()
"#;

fn connect(address: IpAddr, port: u16) -> TcpStream {
    let client = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE).expect("a published port");
    client.set_read_timeout(Some(PATIENCE)).expect("a limit");
    client.set_write_timeout(Some(PATIENCE)).expect("a limit");
    client
}

fn v4(port: u16) -> TcpStream {
    connect(Ipv4Addr::LOCALHOST.into(), port)
}

fn read_one(mut client: TcpStream) -> io::Result<usize> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.read(&mut [0])
}

/// Whether somebody ended the connection, and it was not only waited for long enough.
fn is_broken_off(read: &io::Result<usize>) -> bool {
    match read {
        Ok(count) => *count == 0,
        Err(error) => matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused),
    }
}

/// What a server answers to a plain GET.
fn get(mut client: TcpStream, path: &str) -> String {
    write!(client, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("asked");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("answered");
    answer
}

/// The state of a service, when it is not any of these any more.
#[track_caller]
fn settled(workspace: &Workspace<'_>, name: &str, while_it_is: &str) -> Value {
    for _ in 0..600 {
        let service = workspace.verb("service status", &[name, "--json"]).finish().json();
        if service["state"] != while_it_is {
            return service;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("service {name} is {while_it_is} for ever");
}

fn host_port(service: &Value) -> u16 {
    let port = service["ports"][0]["host_port"].as_u64().expect("a published port");
    u16::try_from(port).expect("a port")
}

/// Bytes in which a lost or doubled piece shows.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at / 7).wrapping_mul(31) % 251).expect("a byte")).collect()
}

#[test]
fn a_service_is_ready_reached_followed_and_ended() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &["--name", "shop", "--network-policy", "egress+published-ports"]);
    assert_eq!(workspace.sh("echo hello from inside > page.txt"), "");
    let web = workspace
        .verb(
            "service start",
            &["web", "--ready-http", "http://localhost:8000/page.txt", "--ready-timeout-seconds", "90"],
        )
        .args(&["--publish", "8000", "--json", "--", "python3", "-u", "-m", "http.server", "--bind", "127.0.0.1"])
        .finish()
        .json();
    assert_eq!((&web["state"], &web["name"]), (&json!("running"), &json!("web")), "{web}");
    let port = host_port(&web);
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let answer = get(connect(address, port), "/page.txt");
        assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("hello from inside\n"), "{answer}");
    }
    workspace.verb("service start", &["web", "--", "true"]).finish().assert_refused(1, &["runs already"]);
    workspace.verb("service logs", &["web"]).finish().assert_stdout_has("GET /page.txt");
    workspace.verb("service logs", &["web", "--tail-lines", "1"]).finish().assert_stdout_has("GET /page.txt");
    assert_eq!(workspace.status()["services"], json!(["web"]));
    workspace.verb("crossings", &[]).finish().assert_stdout_has("guest 8000 of web");

    let again = workspace.verb("service restart", &["web", "--json"]).finish().json();
    assert_eq!((&again["state"], host_port(&again)), (&json!("running"), port), "a restart keeps its port");
    assert!(get(v4(port), "/page.txt").contains("hello"));
    let all = workspace.verb("service logs", &["web", "--all"]).finish();
    all.assert_stdout_has("[pyro: started again]");

    let mut followed = workspace.verb("service logs", &["web", "--follow"]).start();
    assert!(get(v4(port), "/followed").contains("404"));
    followed.wait_for_stdout("GET /followed");
    let stopped = workspace.verb("service stop", &["web", "--json"]).finish().json();
    assert_eq!((&stopped["state"], &stopped["ports"]), (&json!("stopped"), &json!([])), "{stopped}");
    assert!(stopped["killed"].is_null(), "it obeys: {stopped}");
    followed.wait().assert_code(0);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "a port of a stopped service listens");

    ends_and_failures(&workspace);
    resets_and_stops(&workspace);
    workspace.delete();
    home.assert_nothing_left();
}

/// What ends by itself, what never becomes ready, and what does not obey.
fn ends_and_failures(workspace: &Workspace<'_>) {
    // What ends by itself, and what it said last.
    let begun = workspace
        .verb(
            "service start",
            &["crash", "--json", "--", "sh", "-c", "echo about to; sleep 1; echo it broke >&2; exit 7"],
        )
        .finish();
    assert_eq!(begun.json()["state"], "running");
    let crashed = settled(workspace, "crash", "running");
    assert_eq!((&crashed["state"], &crashed["exit_code"]), (&json!("exited"), &json!(7)), "{crashed}");
    workspace.verb("service logs", &["crash"]).finish().assert_stdout("about to\nit broke\n");

    // What does not become ready is ended whole, and says why.
    let never = ["never", "--ready-tcp", "127.0.0.1:9", "--ready-timeout-seconds", "2", "--"];
    let refused =
        workspace.verb("service start", &never).args(&["sh", "-c", "echo trying; sleep 4321 & sleep 4321"]).finish();
    refused.assert_code(1).assert_stdout("").assert_stderr_has("never did not become ready");
    refused.assert_stderr_has("nothing listens at 127.0.0.1:9").assert_stderr_has("    trying");
    assert_eq!(workspace.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 4321' || true").trim(), "0");
    let ended = ["early", "--ready-file", "/run/no-such", "--", "sh", "-c", "exit 3"];
    workspace.verb("service start", &ended).finish().assert_refused(1, &["ended before it was ready", "exited 3"]);
    let command =
        ["file", "--ready-command", "test -e /tmp/there", "--", "sh", "-c", "sleep 1; touch /tmp/there; sleep 4321"];
    workspace.verb("service start", &command).finish().assert_code(0);
    let missing = workspace.verb("service start", &["none", "--", "no-such-program"]).finish();
    missing.assert_refused(1, &["no-such-program"]);
    workspace.verb("service status", &["nobody"]).finish().assert_refused(1, &["no service 'nobody'", "crash"]);

    // One that does not obey is killed with what it started.
    let deaf = [
        "deaf",
        "--ready-file",
        "/tmp/deaf",
        "--",
        "sh",
        "-c",
        "trap '' TERM; touch /tmp/deaf; while :; do sleep 1; done",
    ];
    workspace.verb("service start", &deaf).finish().assert_code(0);
    let killed = workspace.verb("service stop", &["deaf", "--json"]).finish().json();
    assert_eq!((&killed["state"], &killed["killed"]), (&json!("stopped"), &json!(true)), "{killed}");
}

/// A reset and a stop end all of them and say so.
fn resets_and_stops(workspace: &Workspace<'_>) {
    // A reset ends them and says so; what comes back with the workspace comes back with it.
    let reset = workspace.verb("reset", &["--json"]).finish().json();
    assert_eq!(reset["ended"]["services"], json!(["file"]), "{reset}");
    assert_eq!(settled(workspace, "file", "running")["reason"], "its workspace was reset");
    let stays = ["stays", "--restart-on-start", "--", "sh", "-c", "echo here; sleep 4321"];
    workspace.verb("service start", &stays).finish().assert_code(0);
    workspace.verb("service start", &["goes", "--", "sleep", "4321"]).finish().assert_code(0);
    let down = workspace.verb("stop", &["--json"]).finish().json();
    assert_eq!(down["ended_services"], json!(["goes", "stays"]));
    workspace.verb("service logs", &["crash"]).finish().assert_stdout_has("it broke");
    workspace.verb("start", &[]).finish().assert_code(0);
    assert_ne!(settled(workspace, "stays", "stopped")["state"], "exited");
    assert_eq!(settled(workspace, "stays", "starting")["state"], "running");
    assert_eq!(settled(workspace, "goes", "running")["state"], "stopped");
}

#[test]
fn a_published_port_is_exact_in_both_directions_for_many_at_once() {
    let home = Home::shared();
    let workspace = Workspace::create(&home, &["--name", "ports", "--network-policy", "egress+published-ports"]);
    workspace.verb("file write", &["echo.py", "--text", ECHO]).finish().assert_code(0);
    let start =
        ["echo", "--ready-tcp", "localhost:7000", "--ready-timeout-seconds", "90", "--publish", "7000", "--json"];
    let echo = workspace.verb("service start", &start).args(&["--", "python3", "echo.py"]).finish().json();
    let port = host_port(&echo);

    // 64 MiB there and back, while a flood of another service runs and nobody is held up.
    workspace.verb("service start", &["flood", "--", "sh", "-c", "yes; true"]).finish().assert_code(0);
    let sent = pattern(64 << 20);
    let mut client = v4(port);
    let mut reader = client.try_clone().expect("a copy");
    let reading = thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    client.write_all(&sent).expect("taken");
    client.shutdown(Shutdown::Write).expect("half closed");
    workspace.exec(&["echo", "still answers"]).finish().assert_stdout("still answers\n");
    let back = reading.join().expect("no panic").expect("echoed");
    assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());

    let supervisor = workspace.status()["supervisor_pid"].as_u64().expect("a supervisor");
    let peak = |text: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim_end_matches(" kB").trim().parse().expect("kilobytes")
    };
    let of_supervisor = peak(&std::fs::read_to_string(format!("/proc/{supervisor}/status")).expect("it lives"));
    let of_agent = peak(&workspace.sh("cat /proc/1/status"));
    assert!(of_supervisor < 64 << 10 && of_agent < 64 << 10, "{of_supervisor} and {of_agent} KiB");
    // The oldest of a flood goes.
    let begun = Instant::now();
    loop {
        let log = workspace.verb("service logs", &["flood", "--tail-lines", "1", "--json"]).finish().json();
        if log["dropped_bytes"].as_u64() > Some(0) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing of a flood is given up: {log}");
        thread::sleep(Duration::from_millis(500));
    }
    workspace.verb("service stop", &["flood"]).finish().assert_code(0);

    // 200 at once, all open before the first one ends.
    let mut clients: Vec<TcpStream> = (0..200).map(|_| v4(port)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        writeln!(client, "this is {number}").expect("taken");
    }
    let ports = workspace.verb("port list", &["--json"]).finish().json();
    assert_eq!(ports["ports"][0]["service"], "echo");
    for (number, mut client) in clients.into_iter().enumerate() {
        client.shutdown(Shutdown::Write).expect("half closed");
        let mut text = String::new();
        client.read_to_string(&mut text).expect("echoed");
        assert_eq!(text, format!("this is {number}\n"));
    }

    // A port behind which nobody is, and ports that somebody has.
    let added = workspace.verb("port add", &["7001", "--json"]).finish().json();
    let down = u16::try_from(added["host_port"].as_u64().expect("a port")).expect("a port");
    // It may be broken off before it is known to stand.
    let tried = TcpStream::connect(("127.0.0.1", down)).and_then(read_one);
    assert!(is_broken_off(&tried), "something answers where nothing listens: {tried:?}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = format!("{}:7000", taken.local_addr().expect("bound").port());
    let pid = std::process::id().to_string();
    workspace.verb("port add", &[&other]).finish().assert_refused(1, &["in use", &format!("process {pid} (")]);
    let own = format!("{port}:7000");
    workspace.verb("port add", &[&own]).finish().assert_refused(1, &["this workspace publishes it for service echo"]);
    workspace.verb("port remove", &[&down.to_string()]).finish().assert_code(0);
    assert!(TcpStream::connect(("127.0.0.1", down)).is_err());
    workspace.verb("port remove", &[&down.to_string()]).finish().assert_refused(1, &["not published"]);

    let open = v4(port);
    workspace.verb("delete", &["--force"]).finish().assert_code(0);
    let heard = read_one(open);
    assert!(is_broken_off(&heard), "a connection outlives its workspace: {heard:?}");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "a port outlives its workspace");
    home.assert_nothing_left();
}
