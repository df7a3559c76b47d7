//! A small HTTP server on the loopback, with faults to order: what archives and registries of tests are served by.
//!
//! It answers GET and HEAD, understands `Range: bytes=N-` and `If-Range`, and serves as a plain HTTP proxy for itself: a
//! request for `http://any.host/path` is answered with its own `/path`, and recorded as it was asked. What ends with a slash
//! is a page.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A server; it stops listening with its process.
#[derive(Debug, Clone)]
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What goes wrong with one answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is closed after so many bytes of the body.
    CutAfter(usize),
    /// The whole file is sent, whatever range was asked for.
    IgnoreRange,
    /// This status, and no file.
    Status(u16),
    /// Nothing for so long, in the middle of the body, before it goes on.
    Stall(Duration),
    /// Other content.
    Replace(Vec<u8>),
    /// The length of the body is not announced: it ends with the connection.
    NoLength,
    /// A `206` that starts at another place than asked for.
    WrongRange,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// The target as it was written: a path, or a whole URL from a client that takes this for its proxy.
    pub target: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `If-Range` header.
    pub if_range: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    faults: HashMap<String, VecDeque<Fault>>,
    requests: Vec<Request>,
    refuses: bool,
}

/// How long a connection may stay without a request.
const IDLE_MAX: Duration = Duration::from_secs(20);

impl Server {
    /// Starts one on a free port.
    #[must_use]
    pub fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }

    /// Starts one at this address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("the address is this host's, and free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let server = Self { address, state: Arc::default() };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                // A client that goes away ends its own connection only.
                std::thread::spawn(move || drop(server.serve(stream)));
            }
        });
        server
    }

    /// Its base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it listens at.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Serves a file; `path` starts with a slash.
    pub fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.state().files.insert(path.to_owned(), content.into());
    }

    /// Serves it no more.
    pub fn remove(&self, path: &str) {
        self.state().files.remove(path);
    }

    /// Orders a fault for the next answers about a path, one each, after those ordered before.
    pub fn fail(&self, path: &str, fault: Fault) {
        self.state().faults.entry(path.to_owned()).or_default().push_back(fault);
    }

    /// Closes every connection without an answer from now on, or no more.
    pub fn refuse(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    /// The requests that came, in their order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// The requests for one path.
    #[must_use]
    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        self.state().requests.iter().filter(|request| path_of(&request.target) == path).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(IDLE_MAX))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read_request(&mut reader)? {
            let (content, fault) = {
                let mut state = self.state();
                if state.refuses {
                    return Ok(());
                }
                state.requests.push(request.clone());
                let path = path_of(&request.target);
                let fault = state.faults.get_mut(path).and_then(VecDeque::pop_front);
                (state.files.get(path).cloned(), fault)
            };
            if !answer(&stream, &request, content, fault)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Answers; says whether the connection goes on.
fn answer(
    mut stream: &TcpStream,
    request: &Request,
    content: Option<Vec<u8>>,
    fault: Option<Fault>,
) -> io::Result<bool> {
    if let Some(Fault::Status(status)) = fault {
        write!(stream, "HTTP/1.1 {status} Ordered\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    let content = match &fault {
        Some(Fault::Replace(other)) => Some(other.clone()),
        _ => content,
    };
    let Some(content) = content else {
        write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    };
    let tag = format!("\"{}-{}\"", content.len(), content.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    let start = wanted_start(request, &tag, content.len()).filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
    let body = content.get(start.unwrap_or(0)..).unwrap_or_default();
    match start {
        None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
        Some(start) if start >= content.len() => {
            write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
        Some(start) => {
            let told = if matches!(fault, Some(Fault::WrongRange)) { start - 1 } else { start };
            let (last, total) = (content.len() - 1, content.len());
            write!(stream, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {told}-{last}/{total}\r\n")?;
        }
    }
    let ends_with_connection = matches!(fault, Some(Fault::NoLength));
    if ends_with_connection {
        write!(stream, "Connection: close\r\n")?;
    } else {
        write!(stream, "Content-Length: {}\r\n", body.len())?;
    }
    if path_of(&request.target).ends_with('/') {
        write!(stream, "Content-Type: text/html\r\n")?;
    }
    write!(stream, "ETag: {tag}\r\nAccept-Ranges: bytes\r\n\r\n")?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    match fault {
        Some(Fault::CutAfter(length)) => {
            stream.write_all(body.get(..length).unwrap_or(body))?;
            return Ok(false);
        }
        Some(Fault::Stall(pause)) => {
            let (first, rest) = body.split_at(body.len() / 2);
            stream.write_all(first)?;
            std::thread::sleep(pause);
            stream.write_all(rest)?;
        }
        _ => stream.write_all(body)?,
    }
    Ok(!ends_with_connection)
}

fn wanted_start(request: &Request, tag: &str, length: usize) -> Option<usize> {
    let start = request.range.as_ref()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
    let same = request.if_range.as_ref().is_none_or(|wanted| wanted == tag);
    (same && length > 0).then_some(start)
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut request = Request { method, target, range: None, if_range: None };
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            return Ok(Some(request));
        }
        let Some((name, value)) = header.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.trim().to_owned()),
            "if-range" => request.if_range = Some(value.trim().to_owned()),
            _ => {}
        }
    }
}

/// The path of a target, which is a whole URL when the server is used as a proxy.
fn path_of(target: &str) -> &str {
    match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => target,
    }
}
