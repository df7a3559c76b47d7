//! A chat host, as far as the protocol goes: starts `pyro mcp serve`, speaks JSON-RPC to it line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::Home;
use crate::leftovers;

/// Longest wait for an answer; a tool answers within 45 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A host with its server.
#[derive(Debug)]
pub struct ChatHost {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    next_id: u64,
    /// What came that was waited for by nobody yet: notifications, and answers to other requests.
    pub notices: Vec<Value>,
}

/// What a tool answered.
#[derive(Debug)]
pub struct ToolAnswer {
    /// The whole result.
    pub result: Value,
}

impl ChatHost {
    /// Starts a server in the directory `dir`, without a word to it yet.
    #[track_caller]
    #[must_use]
    pub fn silent(home: &Home, dir: &Path, flags: &[&str]) -> Self {
        Self::through(home, dir, flags, &[])
    }

    /// The same, started by this program with these arguments, which end with the call's own words.
    #[track_caller]
    #[must_use]
    pub fn through(home: &Home, dir: &Path, flags: &[&str], through: &[&str]) -> Self {
        let pyro = home.pyro(&["mcp", "serve"]).args(flags);
        let mut command = pyro.command(through);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).current_dir(dir);
        let mut child = command.spawn().expect("the program starts");
        leftovers::register(child.id());
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, lines, next_id: 1, notices: Vec::new() }
    }

    /// Starts a server and opens a session with it.
    #[track_caller]
    #[must_use]
    pub fn start(home: &Home, dir: &Path, flags: &[&str]) -> Self {
        let mut host = Self::silent(home, dir, flags);
        host.greet();
        host
    }

    /// Opens a session with the server.
    #[track_caller]
    pub fn greet(&mut self) {
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test-host", "version": "1"},
        });
        let answer = self.ask("initialize", hello);
        assert_eq!(answer["result"]["serverInfo"]["name"], "pyro", "{answer}");
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    }

    /// Process id of the server.
    #[must_use]
    pub fn server_pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a message as it is.
    pub fn send(&mut self, message: &Value) {
        self.send_line(&message.to_string());
    }

    /// Sends a line, whatever it is.
    pub fn send_line(&mut self, line: &str) {
        self.send_bytes(line.as_bytes());
        self.send_bytes(b"\n");
    }

    /// Sends bytes, whatever they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the server reads");
    }

    /// Waits for the next message, whatever it is.
    #[track_caller]
    pub fn message(&mut self) -> Value {
        self.lines.recv_timeout(ANSWER_LIMIT).expect("the server says something")
    }

    /// Sends a request and gives its id.
    pub fn request(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Waits for the answer to a request.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Value {
        if let Some(at) = self.notices.iter().position(|notice| notice["id"] == json!(id)) {
            return self.notices.remove(at);
        }
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let value = self.lines.recv_timeout(left).expect("the server answers");
            if value["id"] == json!(id) {
                return value;
            }
            self.notices.push(value);
        }
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        self.answer(id)
    }

    /// Calls a tool, whatever comes of it.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> ToolAnswer {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        assert!(answer.get("error").is_none(), "{tool}: {answer}");
        ToolAnswer { result: answer["result"].clone() }
    }

    /// Calls a tool, which must succeed.
    #[track_caller]
    pub fn tool(&mut self, tool: &str, arguments: Value) -> ToolAnswer {
        let answer = self.call(tool, arguments);
        assert_ne!(answer.result["isError"], json!(true), "{tool}: {}", answer.text());
        answer
    }

    /// Calls a tool, which must refuse in words that hold all `parts`.
    #[track_caller]
    pub fn refused(&mut self, tool: &str, arguments: Value, parts: &[&str]) {
        let answer = self.call(tool, arguments);
        assert_eq!(answer.result["isError"], json!(true), "{tool}: {}", answer.text());
        for part in parts {
            assert!(answer.text().contains(part), "{tool}: no {part:?} in {}", answer.text());
        }
        assert!(answer.text().contains("\nnext: "), "{tool}: {}", answer.text());
    }

    /// Closes the server's input and waits for its end.
    #[track_caller]
    pub fn hang_up(mut self, limit: Duration) {
        self.stdin = None;
        self.wait_for_end(limit);
    }

    /// Waits for the server's end.
    #[track_caller]
    pub fn wait_for_end(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.child.try_wait().expect("it is our child").is_none() {
            assert!(Instant::now() < deadline, "the server is still there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Closes the server's input in the middle of whatever was sent, and goes on reading.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Stops listening to the server, whose output then has no reader.
    pub fn stop_listening(&mut self) {
        let (_, nothing) = channel();
        self.lines = nothing;
    }

    /// Kills the server, as some hosts do.
    pub fn kill(mut self) {
        self.child.kill().expect("it is our child");
    }
}

impl Drop for ChatHost {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
        leftovers::unregister(self.child.id());
    }
}

impl ToolAnswer {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.result["content"][0]["text"].as_str().unwrap_or_default()
    }

    /// The record it is, which must be the same as text and as structured content.
    #[track_caller]
    #[must_use]
    pub fn record(&self) -> &Value {
        let structured = &self.result["structuredContent"];
        let text: Value = serde_json::from_str(self.text()).expect("a record's text is JSON");
        assert_eq!(&text, structured);
        structured
    }
}
