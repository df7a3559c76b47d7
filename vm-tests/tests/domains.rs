//! Rules about domains and private hosts, against a server of names and hosts of the test's own: a name that is allowed is
//! reached, by its name only, and nothing else is, whatever the guest asks, guesses or remembers.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use vm_tests::http::Server;
use vm_tests::{Home, NEAR, Networks, Workspace};

/// What the server of names knows.
const NAMES: [(&str, &str); 9] = [
    ("good.test", "203.0.113.10"),
    ("good.test", "2001:db8::a"),
    ("www.good.test", "203.0.113.11"),
    ("evil.test", "203.0.113.66"),
    ("evil.good.test.evil.test", "203.0.113.66"),
    // Names that are allowed and lead to where no name leads.
    ("private.good.test", "10.66.0.10"),
    ("own.good.test", NEAR),
    ("loopback.good.test", "127.0.0.1"),
    ("db.test", "10.66.0.10"),
];

/// The words of a guest's own: questions for names that it puts together itself, and connections.
const WAYS: &str = r#"
import socket, struct, sys
def question(name, kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", 0x1234, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)
def told(answer):
    return "code %d, answers %d" % (answer[3] & 15, struct.unpack(">H", answer[6:8])[0])
def udp(server, name, kind=1):
    talk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    talk.settimeout(30)
    talk.connect((server, 53))
    talk.send(question(name, kind))
    return told(talk.recv(4096))
def tcp(server, name, kind=1):
    message = question(name, kind)
    with socket.create_connection((server, 53), timeout=30) as talk:
        talk.sendall(struct.pack(">H", len(message)) + message)
        return told(talk.recv(4096)[2:])
def connect(host, port=80):
    socket.create_connection((host, port), timeout=30).close()
    return "connected"
for way in sys.argv[1:]:
    try:
        print(way, "->", eval(way))
    except OSError as error:
        print(way, "->", error.errno or type(error).__name__)
"#;

/// Tries these ways in a workspace; each is a call of [`WAYS`].
#[track_caller]
fn check(workspace: &Workspace<'_>, expected: &[(&str, &str)]) {
    let mut argv = vec!["python3", "-c", WAYS];
    argv.extend(expected.iter().map(|(way, _)| *way));
    let lines: String = expected.iter().map(|(way, result)| format!("{way} -> {result}\n")).collect();
    workspace.exec(&argv).limit(Duration::from_secs(240)).finish().assert_code(0).assert_stdout(lines);
}

/// Somebody whom nobody must speak to.
struct Silent(TcpListener);

impl Silent {
    fn at(networks: &Networks, address: &'static str) -> Self {
        let listener = networks.beyond(move || TcpListener::bind(address).expect("it is the far side's address"));
        listener.set_nonblocking(true).expect("a socket can be told so");
        Self(listener)
    }

    /// How many have connected since it was last asked.
    fn visits(&self) -> usize {
        let accept = || match self.0.accept() {
            Ok(_) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot accept: {error}"),
        };
        std::iter::from_fn(accept).count()
    }
}

/// A server of the far side that serves one file.
fn serve(networks: &Networks, address: &'static str, content: &'static str) -> Server {
    let server = networks.beyond(move || Server::at(address.parse().expect("a test names an address")));
    server.put("/", content);
    server
}

#[test]
fn an_allowed_domain_is_reached_by_its_name_and_by_nothing_else() {
    let Some(networks) = Networks::new(&NAMES) else { return };
    let home = Home::shared().started_by(&networks.starter());
    let _good = serve(&networks, "203.0.113.10:80", "good");
    let _good_v6 = serve(&networks, "[2001:db8::a]:80", "good by IPv6");
    let evil = Silent::at(&networks, "203.0.113.66:80");
    let private = Silent::at(&networks, "10.66.0.10:80");

    // Without rules about domains all of it is reached: what is refused below is refused by them.
    let flags = ["--network", "egress"];
    let free = home.run_with(&flags, &["python3", "-c", WAYS, "connect('good.test')", "connect('evil.test')"]).finish();
    free.assert_code(0).assert_stdout("connect('good.test') -> connected\nconnect('evil.test') -> connected\n");
    assert_eq!((evil.visits(), networks.asked().contains(&"evil.test".to_owned())), (1, true));
    let before = networks.asked().len();

    let flags = ["--network-policy", "egress", "--allow-domain", "good.test", "--allow-domain", "*.good.test"];
    let workspace = Workspace::create(&home, &flags);
    check(
        &workspace,
        &[
            // An address of a name that is allowed, guessed before the name was asked for.
            ("connect('203.0.113.10')", "111"),
            ("connect('203.0.113.66')", "111"),
            ("connect('good.test')", "connected"),
            ("connect('203.0.113.10')", "connected"),
            ("connect('2001:db8::a')", "connected"),
            ("connect('evil.test')", "-2"),
            ("connect('evil.good.test.evil.test')", "-2"),
            // Its own packets: to the gateway, which judges them as any, and past it.
            ("udp('192.0.2.1', 'evil.test')", "code 3, answers 0"),
            ("udp('192.0.2.1', 'evil.test', 16)", "code 3, answers 0"),
            ("tcp('192.0.2.1', 'evil.test')", "code 3, answers 0"),
            ("udp('192.0.2.1', 'good.test')", "code 0, answers 1"),
            ("udp('192.0.2.1', '_http._tcp.good.test', 33)", "code 0, answers 0"),
            ("udp('203.0.113.53', 'evil.test')", "113"),
            ("tcp('203.0.113.53', 'evil.test')", "111"),
            // Names that are allowed open no place that is closed.
            ("connect('private.good.test')", "111"),
            ("connect('own.good.test')", "111"),
            ("connect('loopback.good.test')", "111"),
            ("connect('203.0.113.66')", "111"),
        ],
    );
    assert_eq!(
        workspace.sh("curl -sS -4 http://good.test/; echo; curl -sS -6 http://good.test/"),
        "good\ngood by IPv6"
    );

    // What it remembers of an earlier machine is worth nothing before the name is asked for again.
    workspace.verb("reset", &[]).finish().assert_code(0);
    check(
        &workspace,
        &[
            ("connect('203.0.113.10')", "111"),
            ("connect('2001:db8::a')", "111"),
            ("connect('good.test')", "connected"),
            ("connect('203.0.113.10')", "connected"),
        ],
    );

    let asked = networks.asked().split_off(before);
    assert!(asked.iter().all(|name| name.ends_with("good.test")), "{asked:?}");
    assert_eq!((evil.visits(), private.visits()), (0, 0));
    let refusals = workspace.status()["traffic"]["refusals"].to_string();
    assert!(refusals.contains("203.0.113.10:80"), "{refusals}");
    let crossings = workspace.verb("crossings", &[]).finish().stdout_text();
    for line in ["dns evil.test: refused, outside the allowed domains", "good.test (203.0.113.10) port 80: "] {
        assert!(crossings.contains(line), "no {line:?} in {crossings}");
    }
    assert!(!crossings.contains("_http"), "a service of an allowed name is no refusal: {crossings}");
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_private_host_is_opened_by_its_address_or_its_name_and_at_its_port() {
    let Some(networks) = Networks::new(&NAMES) else { return };
    let home = Home::shared().started_by(&networks.starter());
    let db = Silent::at(&networks, "10.66.0.10:5432");
    let other = Silent::at(&networks, "10.66.0.10:80");
    let opens = |rule: &str, expected: &[(&str, &str)]| {
        let workspace = Workspace::create(&home, &["--network-policy", "egress", "--allow-host", rule]);
        check(&workspace, expected);
        workspace.delete();
    };
    opens(
        "10.66.0.10:5432",
        &[
            ("connect('10.66.0.10', 5432)", "connected"),
            ("connect('db.test', 5432)", "connected"),
            ("connect('10.66.0.10', 80)", "111"),
            ("connect('10.66.0.11', 5432)", "111"),
        ],
    );
    opens(
        "db.test:5432",
        &[
            ("connect('10.66.0.10', 5432)", "111"),
            ("connect('db.test', 5432)", "connected"),
            ("connect('db.test', 80)", "111"),
            ("connect('private.good.test', 80)", "111"),
        ],
    );
    assert_eq!((db.visits(), other.visits()), (3, 0));
    home.assert_nothing_left();
}

#[test]
fn the_demonstration_shows_what_a_network_reaches_and_what_it_is_refused() {
    let Some(networks) = Networks::new(&NAMES) else { return };
    let home = Home::shared().started_by(&networks.starter());
    let show = |mirror: &str| {
        let demo = home.pyro(&["demo", "--network"]).env("PYRO_DEBIAN_MIRROR", mirror);
        let outcome = demo.limit(Duration::from_secs(300)).finish();
        outcome.assert_code(0).assert_stderr_has("metadata: 169.254.169.254:80 was refused within");
        outcome
    };
    show("http://good.test/debian").assert_stderr_has("names: good.test is 203.0.113.10 in the guest");
    // A host that knows no address has none for its guests, and that is no fault.
    show("http://nowhere.test:81/debian")
        .assert_stderr_has("nowhere.test has no address in the guest, and none on this host");
    home.assert_nothing_left();
}
