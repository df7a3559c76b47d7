//! QEMU's control protocol: one JSON object a line, over a socket that only this process and its QEMU hold.
//!
//! A client of our own rather than the `qapi` crate: a dozen commands are used, two of them hand over a descriptor, which
//! `qapi` cannot, and its generated schema would be the largest thing the engine compiles. What comes in is bounded: a QEMU
//! that a guest took over must not be able to fill pyro's memory.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Bytes of one line. QEMU's answers to what is asked here have a few hundred.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What the events said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Happened {
    /// The guest's processors were started, or started again.
    pub(super) resumed: bool,
    /// The state of a migration (`setup`, `active`, `completed`, `failed`, …).
    pub(super) migration: Option<String>,
    /// Why QEMU shuts down (`guest-shutdown`, `guest-reset`, `guest-panic`, `host-signal`, …).
    pub(super) shutdown: Option<String>,
    /// Why the guest stands still, if a write that failed made it.
    pub(super) stalled: Option<Stalled>,
    /// QEMU closed the connection.
    pub(super) ended: bool,
}

/// A write that the host could not carry out, and that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stalled {
    /// The host's disk is full.
    pub(super) no_space: bool,
    /// What the host said, in QEMU's words; not cleaned yet.
    pub(super) reason: String,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// QEMU refused it.
    #[error("{description}")]
    Refused {
        /// Its own words; not cleaned yet.
        description: String,
    },
    /// The connection is gone, and QEMU with it.
    #[error("the hypervisor ended")]
    Ended,
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Value, QmpError>>>;

/// A connection to one QEMU.
#[derive(Debug)]
pub(super) struct Qmp {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    shared: Arc<Shared>,
    happened: watch::Receiver<Happened>,
    reader: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    ended: bool,
    waiting: Waiting,
}

impl Qmp {
    /// Begins to listen. Commands may be sent at once: QEMU reads them when it is up.
    pub(super) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        let shared = Arc::<Shared>::default();
        let (sender, happened) = watch::channel(Happened::default());
        let reader = tokio::spawn(read_all(read, Arc::clone(&shared), sender));
        Self { writer: tokio::sync::Mutex::new(write), shared, happened, reader }
    }

    /// Sends a command and waits for its answer. Commands are carried out in the order they were sent.
    ///
    /// # Errors
    /// QEMU refused it, or is gone.
    pub(super) async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.send(command, arguments, None).await
    }

    /// Gives QEMU a descriptor that later commands call `name`.
    ///
    /// # Errors
    /// QEMU refused it, or is gone.
    pub(super) async fn hand_over(&self, name: &str, file: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.send("getfd", json!({ "fdname": name }), Some(file)).await.map(drop)
    }

    /// Gives QEMU a descriptor for the set `set`, which disks are opened from.
    ///
    /// # Errors
    /// QEMU refused it, or is gone.
    pub(super) async fn add_fd(&self, set: i32, file: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.send("add-fd", json!({ "fdset-id": set }), Some(file)).await.map(drop)
    }

    /// Waits until the events satisfy `condition`.
    ///
    /// # Errors
    /// [`QmpError::Ended`] if the connection ended before.
    pub(super) async fn until(&self, condition: impl Fn(&Happened) -> bool) -> Result<Happened, QmpError> {
        let mut happened = self.happened.clone();
        let found = happened.wait_for(|happened| condition(happened) || happened.ended).await;
        let found = found.map_err(|_| QmpError::Ended)?.clone();
        if condition(&found) { Ok(found) } else { Err(QmpError::Ended) }
    }

    /// What the events said so far.
    pub(super) fn happened(&self) -> Happened {
        self.happened.borrow().clone()
    }

    async fn send(&self, command: &str, arguments: Value, file: Option<BorrowedFd<'_>>) -> Result<Value, QmpError> {
        let (sender, answer) = oneshot::channel();
        {
            let mut writer = self.writer.lock().await;
            let id = self.shared.expect(sender).ok_or(QmpError::Ended)?;
            let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
            line.push('\n');
            if write(&mut writer, line.as_bytes(), file).await.is_err() {
                self.shared.forget(id);
                return Err(QmpError::Ended);
            }
        }
        answer.await.map_err(|_| QmpError::Ended)?
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new id whose answer goes to `sender`; `None` when no answer can come any more.
    fn expect(&self, sender: oneshot::Sender<Result<Value, QmpError>>) -> Option<u64> {
        let mut state = self.state();
        if state.ended {
            return None;
        }
        state.next_id += 1;
        let id = state.next_id;
        state.waiting.insert(id, sender);
        Some(id)
    }

    fn forget(&self, id: u64) {
        self.state().waiting.remove(&id);
    }

    fn answer(&self, id: u64, result: Result<Value, QmpError>) {
        if let Some(sender) = self.state().waiting.remove(&id) {
            // Whoever asked may have given up.
            drop(sender.send(result));
        }
    }

    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.waiting.clear();
    }
}

async fn write(writer: &mut OwnedWriteHalf, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let stream: &UnixStream = writer.as_ref();
    let mut rest = bytes;
    let mut file = file;
    while !rest.is_empty() {
        let sent = stream.async_io(Interest::WRITABLE, || send_part(stream, rest, file)).await?;
        rest = &rest[sent..];
        // The descriptor went with the first bytes.
        file = None;
    }
    Ok(())
}

fn send_part(stream: &UnixStream, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = file.as_slice();
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    Ok(sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

async fn read_all(read: OwnedReadHalf, shared: Arc<Shared>, happened: watch::Sender<Happened>) {
    let mut reader = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(1..) if line.ends_with(b"\n") => {}
            // The end, an error, or a line beyond all bounds: there is nothing more to be learnt here.
            _ => break,
        }
        if let Ok(message) = serde_json::from_slice::<Value>(&line) {
            take_message(&message, &shared, &happened);
        }
    }
    shared.end();
    happened.send_modify(|happened| happened.ended = true);
}

fn take_message(message: &Value, shared: &Shared, happened: &watch::Sender<Happened>) {
    if let Some(event) = message["event"].as_str() {
        let text = |name: &str| message["data"][name].as_str().map(str::to_owned);
        happened.send_modify(|happened| match event {
            "RESUME" => (happened.resumed, happened.stalled) = (true, None),
            "BLOCK_IO_ERROR" if message["data"]["action"] == "stop" => {
                let no_space = message["data"]["nospace"] == true;
                happened.stalled = Some(Stalled { no_space, reason: text("reason").unwrap_or_default() });
            }
            "MIGRATION" => happened.migration = text("status"),
            "SHUTDOWN" => happened.shutdown = text("reason"),
            _ => {}
        });
    } else if let Some(id) = message["id"].as_u64() {
        let result = match message["error"]["desc"].as_str() {
            Some(description) => Err(QmpError::Refused { description: description.to_owned() }),
            None => Ok(message["return"].clone()),
        };
        shared.answer(id, result);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::{Qmp, QmpError};

    async fn line_of(stream: &mut UnixStream) -> serde_json::Value {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(stream.read_u8().await.unwrap());
        }
        serde_json::from_slice(&line).unwrap()
    }

    #[tokio::test]
    async fn answers_find_their_commands_and_events_are_not_missed() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let qmp = Qmp::new(ours);
        let server = async {
            let first = line_of(&mut theirs).await;
            let second = line_of(&mut theirs).await;
            assert_eq!(first["execute"], "one");
            let text = format!(
                "{}\n{}\n{}\n{}\n",
                json!({"QMP": {}}),
                json!({"event": "RESUME", "data": {}}),
                json!({"error": {"class": "GenericError", "desc": "no"}, "id": second["id"]}),
                json!({"return": {"a": 1}, "id": first["id"]})
            );
            theirs.write_all(text.as_bytes()).await.unwrap();
        };
        let (first, second, ()) = tokio::join!(qmp.execute("one", json!({})), qmp.execute("two", json!({})), server);
        assert_eq!(first.unwrap()["a"], 1);
        assert!(matches!(second, Err(QmpError::Refused { description }) if description == "no"));
        qmp.until(|happened| happened.resumed).await.unwrap();
        drop(theirs);
        assert!(matches!(qmp.until(|happened| happened.shutdown.is_some()).await, Err(QmpError::Ended)));
        assert!(matches!(qmp.execute("three", json!({})).await, Err(QmpError::Ended)));
    }

    #[tokio::test]
    async fn a_line_without_an_end_ends_the_connection() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let qmp = Qmp::new(ours);
        let flood = vec![b'x'; 2 << 20];
        // Nobody reads the rest of the flood, so it is never all written.
        tokio::select! {
            result = theirs.write_all(&flood) => panic!("all of it was taken: {result:?}"),
            waited = qmp.until(|happened| happened.resumed) => assert!(matches!(waited, Err(QmpError::Ended))),
        }
    }

    #[tokio::test]
    async fn a_descriptor_goes_with_its_command() {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"state").unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let qmp = Qmp::new(ours);
        let receive = async {
            theirs.readable().await.unwrap();
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [0; 512];
            let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
            recvmsg(theirs.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
            let Some(RecvAncillaryMessage::ScmRights(mut files)) = control.drain().next() else {
                panic!("no descriptor")
            };
            let mut received = std::fs::File::from(files.next().unwrap());
            let mut text = String::new();
            received.rewind().unwrap();
            received.read_to_string(&mut text).unwrap();
            assert_eq!(text, "state");
            drop(theirs);
        };
        let (sent, ()) = tokio::join!(qmp.hand_over("state", file.as_fd()), receive);
        assert!(matches!(sent, Err(QmpError::Ended)));
    }
}
