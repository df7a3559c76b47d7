//! A model for a chat host, on the loopback: an HTTP server that hands each request of the host to the test, which says
//! what the model says.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::dialect::{Dialect, Reply};

/// How long a request may wait for what the test says to it.
const SAID_WITHIN: Duration = Duration::from_secs(900);

/// Longest request body. The whole conversation is in each.
const BODY_BYTES_MAX: usize = 64 << 20;

/// The server; it stops listening with its process.
#[derive(Debug)]
pub(super) struct Model {
    address: SocketAddr,
    /// Requests that offer tools. What else a host asks, such as for a title, is answered without the test.
    pub(super) turns: Receiver<Turn>,
}

/// A request of the host that waits for what the model says.
#[derive(Debug)]
pub(super) struct Turn {
    /// The request as it came.
    pub(super) body: Value,
    /// The tools that the model may call.
    pub(super) tools: Vec<Tool>,
    /// What the calls so far gave, by their ids.
    pub(super) results: BTreeMap<String, Shown>,
    said: SyncSender<Say>,
}

/// A tool as a host offers it to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) name: String,
    /// What its name is in, if it is in something.
    pub(super) namespace: Option<String>,
    pub(super) kind: String,
    /// It is named only: the model must ask for it before it can call it.
    pub(super) deferred: bool,
}

/// The result of a call as the model is shown it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its text.
    pub text: String,
    /// Whether it is shown as an error; not all hosts tell.
    pub is_error: Option<bool>,
}

/// What the model says.
#[derive(Debug, Clone)]
pub(super) enum Say {
    /// Words, which end the host's turn.
    Words(String),
    /// A call.
    Call(ModelCall),
}

/// A call as the model writes it down.
#[derive(Debug, Clone)]
pub(super) struct ModelCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) kind: CallKind,
    /// Its arguments, or the script.
    pub(super) input: Value,
}

/// The kinds of calls that APIs know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// With arguments.
    Function,
    /// The search for tools that the client carries out.
    Search,
    /// With a text of its own language.
    Script,
}

impl Model {
    /// Starts one on a free port.
    pub(super) fn start(dialect: Dialect) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (sender, turns) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                // A host that goes away in the middle ends its own connection only.
                std::thread::spawn(move || drop(serve(&stream, dialect, |turn| sender.send(turn).is_ok())));
            }
        });
        Self { address, turns }
    }

    /// Its base URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Turn {
    /// Answers the host.
    pub(super) fn say(self, say: Say) {
        // A host that was killed does not listen any more.
        drop(self.said.send(say));
    }
}

fn serve(stream: &TcpStream, dialect: Dialect, hand_over: impl Fn(Turn) -> bool) -> io::Result<()> {
    let (method, path, body) = read_request(stream)?;
    let path = path.split('?').next().unwrap_or_default();
    if method != "POST" || !path.ends_with(dialect.path()) {
        return match (method.as_str(), path) {
            ("POST", path) if path.ends_with("/count_tokens") => send(stream, 200, &json!({"input_tokens": 1000})),
            (_, path) if path.ends_with("/models") => {
                send(stream, 200, &json!({"object": "list", "data": [], "models": []}))
            }
            _ => send(stream, 404, &json!({"error": {"type": "not_found_error", "message": "not found"}})),
        };
    }
    let body: Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
    let (tools, results) = dialect.read(&body);
    let (said, saying) = sync_channel(1);
    let say = if tools.is_empty() {
        Say::Words("A scripted session".to_owned())
    } else if hand_over(Turn { body: body.clone(), tools, results, said }) {
        saying.recv_timeout(SAID_WITHIN).map_err(io::Error::other)?
    } else {
        return Ok(());
    };
    match dialect.reply(&body, &say) {
        Reply::Whole(value) => send(stream, 200, &value),
        Reply::Events(events) => send_events(stream, &events),
    }
}

fn read_request(stream: &TcpStream) -> io::Result<(String, String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::Error::other("no request"));
    };
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            "transfer-encoding" => chunked = value.contains("chunked"),
            _ => {}
        }
    }
    let body = if chunked { read_chunks(&mut reader)? } else { read_bytes(&mut reader, length)? };
    Ok((method, path, body))
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        body.extend(read_bytes(reader, size)?);
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn read_bytes(reader: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    if length > BODY_BYTES_MAX {
        return Err(io::Error::other("too much"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn send(mut stream: &TcpStream, status: u16, value: &Value) -> io::Result<()> {
    let text = value.to_string();
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

/// A stream of events ends with its connection.
fn send_events(mut stream: &TcpStream, events: &[(Option<&'static str>, String)]) -> io::Result<()> {
    let mut text = "HTTP/1.1 200 Told\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n".to_owned();
    for (name, data) in events {
        if let Some(name) = name {
            text.push_str(&format!("event: {name}\n"));
        }
        text.push_str(&format!("data: {data}\n\n"));
    }
    stream.write_all(text.as_bytes())
}
