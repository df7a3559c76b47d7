//! One run of a chat host without a person: the test says what the model says, and is shown what the model is shown.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};

use crate::leftovers;

use super::dialect::{Step, Wish};
use super::model::{CallKind, ModelCall, Say, Shown, Turn};
use super::transcript::Transcript;
use super::user::HostUser;
use super::{Host, Start};

/// Longest wait for the host's next request; a tool answers within 45 s, and an emulated guest on a busy machine is slow.
const ASKED_WITHIN: Duration = Duration::from_secs(150);

/// How long a host may take to end once the model has said its last words.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A session. Dropping it kills the host.
#[derive(Debug)]
pub struct Session<'a> {
    user: &'a HostUser,
    child: Child,
    transcript: Transcript,
    stdout: PathBuf,
    stderr: PathBuf,
    last_words: PathBuf,
    /// The part of the host that does the work, where its user can stop it.
    service: Option<Service>,
    /// A call that was begun, and is not waited for yet.
    pending: Option<(String, String, Value)>,
    /// The request that waits for what the model says.
    turn: Option<Turn>,
    calls: usize,
    asked: BTreeSet<String>,
    /// Names of pyro's tools that the model knew before it called the first one.
    known: BTreeSet<String>,
    /// The first request, which has what the model is told of pyro.
    first: Value,
}

/// What came of a session.
#[derive(Debug)]
pub struct Ended {
    /// The host's exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl<'a> Session<'a> {
    pub(super) fn start(
        user: &'a HostUser,
        prompt: &str,
        start: &Start,
        transcript: Transcript,
        file: &dyn Fn(&str) -> PathBuf,
    ) -> Self {
        let (stdout, stderr, last_words) = (file("stdout"), file("stderr"), file("last-words"));
        let create = |path: &Path| File::create(path).expect("the target directory takes files");
        let mut command = user.command();
        let service =
            (start.gives_up && user.host == Host::Opencode).then(|| Service::start(user, &create(&file("service"))));
        command.args(user.host.arguments(prompt, &last_words, service.as_ref().map(|service| service.port)));
        if start.gives_up {
            user.host.limit(&mut command);
        }
        command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr)).process_group(0);
        let child = command.spawn().expect("the host's program starts");
        leftovers::register(child.id());
        let mut session = Self {
            user,
            child,
            transcript,
            stdout,
            stderr,
            last_words,
            service,
            pending: None,
            turn: None,
            calls: 0,
            asked: BTreeSet::new(),
            known: BTreeSet::new(),
            first: Value::Null,
        };
        let turn = session.next_turn();
        std::fs::write(file("first-request.json"), format!("{:#}\n", turn.body))
            .expect("the target directory takes files");
        session.first = turn.body.clone();
        session.turn = Some(turn);
        session
    }

    /// The model calls a tool, whatever comes of it.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> Shown {
        self.begin(tool, &arguments);
        self.pending_result()
    }

    /// What comes of the call that was begun.
    #[track_caller]
    fn pending_result(&mut self) -> Shown {
        let begun = Instant::now();
        let (id, tool, arguments) = self.pending.take().expect("a call was begun");
        let mut shown = self.shown(&id);
        // A script that takes long is handed back unfinished; the model waits for the rest.
        let mut waits = 0;
        while let Some(cell) = running_cell(&shown.text) {
            waits += 1;
            let wait = ModelCall {
                id: format!("{id}_wait{waits}"),
                name: "wait".to_owned(),
                namespace: None,
                kind: CallKind::Function,
                input: json!({"cell_id": cell, "yield_time_ms": 30_000}),
            };
            self.say(Say::Call(wait.clone()));
            shown = self.shown(&wait.id);
        }
        self.transcript.call(&tool, &arguments, &shown.text, begun.elapsed());
        if self.user.host == Host::CodexScripts { result_of_script(shown) } else { shown }
    }

    /// The model calls a tool, and nobody waits for what comes of it.
    #[track_caller]
    pub fn begin(&mut self, tool: &str, arguments: &Value) {
        self.calls += 1;
        let id = format!("call_{}", self.calls);
        let mut is_loaded = false;
        loop {
            let turn = self.turn.take().expect("the host asks what comes next");
            let wish = Wish { id: &id, tool, arguments, asked: &self.asked };
            let step = self.user.host.dialect().plan(&turn, &wish);
            if self.calls == 1 && (is_loaded || !matches!(step, Some(Step::Load(..)))) {
                self.known = known(&turn);
            }
            self.turn = Some(turn);
            match step {
                Some(Step::Load(call, what)) => {
                    is_loaded = true;
                    self.asked.insert(what);
                    self.say(Say::Call(call.clone()));
                    self.shown(&call.id);
                }
                Some(Step::Call(call)) => {
                    self.say(Say::Call(call));
                    self.pending = Some((id, tool.to_owned(), arguments.clone()));
                    return;
                }
                None => panic!("{} offers no tool {tool} of pyro", self.user.host.name()),
            }
        }
    }

    /// The call that was begun is given up: by the host, whose model is then shown something, or by its user, who ends the
    /// host's turn.
    #[track_caller]
    pub fn give_up(&mut self) -> Option<Shown> {
        let Some(service) = &self.service else { return Some(self.pending_result()) };
        let stdout = std::fs::read_to_string(&self.stdout).unwrap_or_default();
        let events = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let session = events.filter_map(|event| event["sessionID"].as_str().map(str::to_owned)).next();
        let session = session.expect("the host tells its session");
        service.post(&format!("/session/{session}/abort"));
        None
    }

    /// Names of pyro's tools that the model knew before it called the first one.
    #[must_use]
    pub fn known_tools(&self) -> &BTreeSet<String> {
        &self.known
    }

    /// Whether the model was told this before it said anything.
    #[must_use]
    pub fn was_told(&self, words: &str) -> bool {
        let quoted = json!(words).to_string();
        self.first.to_string().contains(quoted.trim_matches('"'))
    }

    /// The model says its last words, and the host ends.
    #[track_caller]
    pub fn finish(mut self, words: &str) -> Ended {
        self.say(Say::Words(words.to_owned()));
        let ended = self.wait_for_end(END_LIMIT);
        let told = std::fs::read_to_string(&self.last_words).unwrap_or_default() + &ended.stdout;
        assert!(told.contains(words), "{} does not tell the model's last words: {ended:?}", self.user.host.name());
        ended
    }

    /// Its user presses Ctrl-C, again and again where that is not heard, which the host and what it started are told of.
    #[track_caller]
    pub fn interrupt(mut self) -> Ended {
        let deadline = Instant::now() + END_LIMIT;
        while self.child.try_wait().expect("it is our child").is_none() && Instant::now() < deadline {
            // It may be gone just now.
            let _ = kill_process_group(self.pid(), Signal::INT);
            std::thread::sleep(Duration::from_secs(2));
        }
        self.wait_for_end(END_LIMIT)
    }

    /// Kills the host, and nothing but it.
    #[track_caller]
    pub fn kill(mut self) -> Ended {
        kill_process(self.pid(), Signal::KILL).expect("the host runs");
        self.wait_for_end(END_LIMIT)
    }

    /// The process id of the host's server, as long as it runs.
    #[must_use]
    pub fn server_pid(&self) -> Option<u32> {
        let servers = leftovers::descendants(self.child.id());
        servers.into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(10).any(|window| window == b"mcp\0serve\0")
        })
    }

    /// Waits for the host's own end.
    #[track_caller]
    fn wait_for_end(&mut self, limit: Duration) -> Ended {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            // A host that asks again after the last words is told them again.
            if let Ok(turn) = self.user.model.turns.recv_timeout(Duration::from_millis(20)) {
                turn.say(Say::Words("That is all.".to_owned()));
            }
            assert!(Instant::now() < deadline, "{} does not end", self.user.host.name());
        };
        let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        let ended = Ended { code: status.code(), stdout: read(&self.stdout), stderr: read(&self.stderr) };
        self.transcript.note(&format!("The host ended with {status}. On its standard error: {:?}", ended.stderr));
        ended
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).expect("a child's id is positive")
    }

    fn say(&mut self, say: Say) {
        self.turn.take().expect("the host asks what comes next").say(say);
    }

    /// Waits until the host asks with the result of that call, and gives it.
    #[track_caller]
    fn shown(&mut self, id: &str) -> Shown {
        let turn = self.next_turn();
        let shown = turn.results.get(id).cloned();
        self.turn = Some(turn);
        shown.unwrap_or_else(|| panic!("{} asks again without the result of {id}", self.user.host.name()))
    }

    #[track_caller]
    fn next_turn(&mut self) -> Turn {
        let deadline = Instant::now() + ASKED_WITHIN;
        loop {
            match self.user.model.turns.recv_timeout(Duration::from_millis(200)) {
                Ok(turn) => return turn,
                Err(RecvTimeoutError::Disconnected) => panic!("the model's server is gone"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let ended = self.child.try_wait().expect("it is our child");
            if ended.is_some() || Instant::now() > deadline {
                let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
                panic!(
                    "{} asks the model nothing ({ended:?}): {}{}",
                    self.user.host.name(),
                    read(&self.stdout),
                    read(&self.stderr)
                );
            }
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // It may be gone already. Its children are ended with its user.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        drop(self.child.kill());
        drop(self.child.wait());
        leftovers::unregister(self.child.id());
    }
}

/// The part of OpenCode that does the work, as a process of its own: only then can somebody else stop a turn.
#[derive(Debug)]
struct Service {
    child: Child,
    port: u16,
}

impl Service {
    fn start(user: &HostUser, log: &File) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        drop(listener);
        let mut command = user.command();
        command.args(["serve", "--port", &port.to_string()]).stdin(Stdio::null());
        let log = || Stdio::from(log.try_clone().expect("there are descriptors left"));
        let child = command.stdout(log()).stderr(log()).spawn().expect("the host's program starts");
        leftovers::register(child.id());
        let service = Self { child, port };
        let deadline = Instant::now() + ASKED_WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the host does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        service
    }

    fn post(&self, path: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the host listens");
        let head = "Host: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        write!(stream, "POST {path} HTTP/1.1\r\n{head}").expect("the host listens");
        // It may hold the connection open all the same.
        stream.set_read_timeout(Some(END_LIMIT)).expect("a limit is no zero");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("the host answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
        leftovers::unregister(self.child.id());
    }
}

/// The tools of pyro that a request has, whole or by their names.
fn known(turn: &Turn) -> BTreeSet<String> {
    let whole = turn.tools.iter().filter_map(|tool| tool.own_name()).map(str::to_owned);
    let text = turn.body.to_string();
    let named = text
        .split("mcp__pyro__")
        .skip(1)
        .map(|rest| rest.chars().take_while(|one| one.is_ascii_alphanumeric() || *one == '_').collect::<String>());
    whole.chain(named).filter(|name| !name.is_empty()).collect()
}

/// The script that a result says is still running.
fn running_cell(text: &str) -> Option<String> {
    let rest = text.strip_prefix("Script running with cell ID ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// A script shows the whole result of a tool, of which a model reads the text.
fn result_of_script(shown: Shown) -> Shown {
    let Ok(result) = serde_json::from_str::<Value>(&shown.text) else { return shown };
    let text = result["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    Shown { text, is_error: Some(result["isError"] == json!(true)) }
}
