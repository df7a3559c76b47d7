//! The link to the agent of one machine: one session over one byte stream, shared by any number of commands and of
//! [`connections`].
//!
//! One task reads frames and hands them to whom they concern, another writes frames in order. Both end with the link.
//! A peer that breaks the protocol, floods past its credit or goes away ends the session, and everyone who waits on it
//! is told why. Nothing here trusts a byte of the guest.

mod connections;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyro_wire::credit::{ReceiveCredit, SendCredit};
use pyro_wire::exec::{ExecRequest, Word};
use pyro_wire::frame::DATA_BYTES_MAX;
use pyro_wire::message::{Answer, Request};
use pyro_wire::version::ProtocolRange;
use pyro_wire::{
    ConnectionId, Decoder, ExecId, Exit, Fault, Frame, GuestMessage, HostMessage, Program, RequestId, Stream,
    TerminalSize,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

pub use connections::{ConnectionEvent, ConnectionReader, ConnectionWriter};

/// Frames that wait to be written; a full queue makes senders wait.
const OUTGOING_FRAMES_MAX: usize = 16;

/// Bytes taken from the stream at a time.
const READ_BYTES: usize = 256 * 1024;

/// A session with the agent of one machine.
#[derive(Debug, Clone)]
pub struct GuestLink {
    inner: Arc<Inner>,
    /// For all programs of the guest that are started over it.
    variables: Arc<BTreeMap<String, Word>>,
}

/// Why the agent could not be asked, or did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// The stream to the guest ended.
    #[error("the connection to the guest agent was lost")]
    Lost,
    /// The guest sent what the protocol does not allow.
    #[error("the guest agent broke the protocol: {reason}")]
    Protocol {
        /// What was wrong.
        reason: String,
    },
    /// Host and agent have no protocol version in common.
    #[error("the guest agent speaks protocol {}–{}, this pyro {}–{}", agent.oldest, agent.newest, host.oldest, host.newest)]
    Version {
        /// What the agent speaks.
        agent: ProtocolRange,
        /// What we speak.
        host: ProtocolRange,
    },
    /// The agent refused, or failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a command does, in order. The last event is [`ExecEvent::Exited`].
#[derive(Debug)]
pub enum ExecEvent {
    /// It wrote bytes to one of its streams.
    Output(Stream, Vec<u8>),
    /// It ended.
    Exited {
        /// How.
        exit: Exit,
        /// How long it ran, by the guest's clock.
        duration_ms: u64,
    },
}

/// A command that was started. Dropping it kills the command.
#[derive(Debug)]
pub struct RunningExec {
    id: ExecId,
    inner: Arc<Inner>,
    events: mpsc::UnboundedReceiver<ExecEvent>,
    stdin: Option<ExecStdin>,
    ended: bool,
}

/// The sending end of a command's standard input.
#[derive(Debug)]
pub struct ExecStdin {
    id: ExecId,
    inner: Arc<Inner>,
    window: Arc<SendWindow>,
}

/// What can be asked of a command by those who do not hold it.
#[derive(Debug, Clone)]
pub struct ExecHandle {
    id: ExecId,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    outgoing: mpsc::Sender<Vec<u8>>,
    /// Last words on what nobody holds any more. They cannot wait for room: at most one for each that was held.
    farewells: mpsc::UnboundedSender<Vec<u8>>,
    state: Mutex<State>,
    counter: AtomicU32,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Debug, Default)]
struct State {
    replies: HashMap<RequestId, oneshot::Sender<Result<Answer, LinkError>>>,
    execs: HashMap<ExecId, ExecEntry>,
    connections: HashMap<ConnectionId, connections::Entry>,
    closed: Option<LinkError>,
}

#[derive(Debug)]
struct ExecEntry {
    started: Option<oneshot::Sender<Result<(), LinkError>>>,
    events: mpsc::UnboundedSender<ExecEvent>,
    stdin: Arc<SendWindow>,
    stdout: OutputCredit,
    stderr: OutputCredit,
}

#[derive(Debug, Default)]
struct OutputCredit {
    credit: ReceiveCredit,
    ended: bool,
}

/// How much may be sent of a stream, and who waits for more.
#[derive(Debug, Default)]
struct SendWindow {
    left: Mutex<SendCredit>,
    changed: Notify,
}

impl SendWindow {
    fn new(credit: SendCredit) -> Self {
        Self { left: Mutex::new(credit), changed: Notify::new() }
    }

    fn give(&self, bytes: u32) -> Result<(), LinkError> {
        unpoisoned(&self.left).give(bytes).map_err(|error| broken(&error))?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until some of `wanted` bytes may be sent, and takes leave for them; none when what it is for is not there any more.
    async fn take(
        &self,
        wanted: usize,
        is_there: impl Fn() -> Result<bool, LinkError>,
    ) -> Result<Option<usize>, LinkError> {
        loop {
            let changed = self.changed.notified();
            {
                let mut left = unpoisoned(&self.left);
                let count = wanted.min(left.left_bytes());
                if count > 0 {
                    left.take(count);
                    return Ok(Some(count));
                }
            }
            if !is_there()? {
                return Ok(None);
            }
            changed.await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in unpoisoned(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

impl GuestLink {
    /// Opens a session: says `Hello`, waits for `Welcome`, settles the version. Answers as soon as the agent does, which
    /// may take as long as the guest takes to boot; the caller sets the limit.
    ///
    /// # Errors
    /// The stream ended, the agent broke the protocol, or the two have no version in common.
    pub async fn open(stream: UnixStream, session: &str) -> Result<Self, LinkError> {
        let (mut reader, writer) = stream.into_split();
        let (outgoing, queue) = mpsc::channel(OUTGOING_FRAMES_MAX);
        let (farewells, last_words) = mpsc::unbounded_channel();
        let (state, tasks, counter) = (Mutex::default(), Mutex::default(), AtomicU32::new(1));
        let inner = Arc::new(Inner { outgoing, farewells, state, counter, tasks });
        let writing = tokio::spawn(write_frames(writer, queue, last_words)).abort_handle();
        unpoisoned(&inner.tasks).push(writing);

        let hello = HostMessage::Hello { protocol: ProtocolRange::OURS, session: session.to_owned() };
        inner.send(&hello).await?;
        let mut decoder = Decoder::new();
        welcome(&mut reader, &mut decoder, session).await?;

        let reading = tokio::spawn(read_frames(reader, decoder, Arc::downgrade(&inner))).abort_handle();
        unpoisoned(&inner.tasks).push(reading);
        Ok(Self { inner, variables: Arc::default() })
    }

    /// Asks for one thing and waits for the answer.
    ///
    /// # Errors
    /// The agent refused, or the session ended.
    pub async fn request(&self, request: Request) -> Result<Answer, LinkError> {
        let id = RequestId(self.inner.next_number());
        let (sender, answer) = oneshot::channel();
        self.inner.open_state()?.replies.insert(id, sender);
        let sent = self.inner.send(&HostMessage::Request { id, request }).await;
        if let Err(error) = sent {
            unpoisoned(&self.inner.state).replies.remove(&id);
            return Err(error);
        }
        answer.await.unwrap_or_else(|_| Err(self.inner.reason()))
    }

    /// From now on gives these variables to every program that does not have its own of that name.
    #[must_use]
    pub fn with_variables(self, variables: &BTreeMap<String, String>) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.clone(), Word::from(value.as_str()))).collect();
        Self { variables: Arc::new(variables), ..self }
    }

    /// Starts a command and waits until its process exists.
    ///
    /// # Errors
    /// The agent could not start it, or the session ended.
    pub async fn exec(&self, mut request: ExecRequest) -> Result<RunningExec, LinkError> {
        if let Program::Argv(_) = &request.program {
            for (name, value) in &*self.variables {
                request.env.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let id = ExecId(self.inner.next_number());
        let (events_sender, events) = mpsc::unbounded_channel();
        let (started_sender, started) = oneshot::channel();
        let window = Arc::new(SendWindow::default());
        let entry = ExecEntry {
            started: Some(started_sender),
            events: events_sender,
            stdin: Arc::clone(&window),
            stdout: OutputCredit::default(),
            stderr: OutputCredit::default(),
        };
        let stdin = request.stdin.then(|| ExecStdin { id, inner: Arc::clone(&self.inner), window });
        self.inner.open_state()?.execs.insert(id, entry);
        // From here on a dropped `running` kills the command, also when the caller gives up waiting for its start.
        let running = RunningExec { id, inner: Arc::clone(&self.inner), events, stdin, ended: false };
        self.inner.send(&HostMessage::Exec { exec: id, request }).await?;
        started.await.unwrap_or_else(|_| Err(self.inner.reason()))?;
        Ok(running)
    }
}

impl RunningExec {
    /// What the command does next; `None` when the session ended before the command did. Cancel-safe.
    pub async fn next(&mut self) -> Option<ExecEvent> {
        let event = self.events.recv().await?;
        match &event {
            ExecEvent::Output(stream, bytes) => self.give_back(*stream, bytes.len()).await,
            ExecEvent::Exited { .. } => self.ended = true,
        }
        Some(event)
    }

    /// The command's standard input, if it was asked for. Given out once.
    pub fn take_stdin(&mut self) -> Option<ExecStdin> {
        self.stdin.take()
    }

    /// A handle that can signal, resize and kill the command.
    #[must_use]
    pub fn handle(&self) -> ExecHandle {
        ExecHandle { id: self.id, inner: Arc::clone(&self.inner) }
    }

    /// Whether its end came already, so that what [`Self::next`] still gives is all there is.
    pub(super) fn is_over(&self) -> bool {
        !unpoisoned(&self.inner.state).execs.contains_key(&self.id)
    }

    /// Why the session ended, once [`Self::next`] answered `None`.
    #[must_use]
    pub fn lost(&self) -> LinkError {
        self.inner.reason()
    }

    async fn give_back(&self, stream: Stream, count: usize) {
        let due = {
            let mut state = unpoisoned(&self.inner.state);
            let Some(entry) = state.execs.get_mut(&self.id) else { return };
            entry.output(stream).credit.consume(count)
        };
        if let Some(bytes) = due {
            // A session that ended in between is told by `next`.
            drop(self.inner.send(&HostMessage::Credit { exec: self.id, stream, bytes }).await);
        }
    }
}

impl Drop for RunningExec {
    fn drop(&mut self) {
        let known = unpoisoned(&self.inner.state).execs.remove(&self.id).is_some();
        if known && !self.ended {
            self.inner.say_farewell(&HostMessage::Kill { exec: self.id });
        }
    }
}

impl ExecStdin {
    /// Sends bytes, waiting for the command to take what was sent before.
    ///
    /// # Errors
    /// The session ended. Bytes for a command that ended meanwhile are dropped without an error.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let is_there = || Ok(self.inner.open_state()?.execs.contains_key(&self.id));
            let wanted = rest.len().min(DATA_BYTES_MAX);
            // What is for a command that ended is sent as if it were taken: the agent throws it away.
            let count = self.window.take(wanted, is_there).await?.unwrap_or(wanted);
            let (now, later) = rest.split_at(count);
            self.send(now.to_vec()).await?;
            rest = later;
        }
        Ok(())
    }

    /// Ends standard input.
    ///
    /// # Errors
    /// The session ended.
    pub async fn close(self) -> Result<(), LinkError> {
        self.send(Vec::new()).await
    }

    async fn send(&self, bytes: Vec<u8>) -> Result<(), LinkError> {
        self.inner.send_frame(&Frame::Data { exec: self.id, stream: Stream::Stdin, bytes }).await
    }
}

impl ExecHandle {
    /// Sends a signal to the command's foreground process group.
    ///
    /// # Errors
    /// The session ended.
    pub async fn signal(&self, signal: u8) -> Result<(), LinkError> {
        self.inner.send(&HostMessage::Signal { exec: self.id, signal }).await
    }

    /// Kills the command and everything it started.
    ///
    /// # Errors
    /// The session ended.
    pub async fn kill(&self) -> Result<(), LinkError> {
        self.inner.send(&HostMessage::Kill { exec: self.id }).await
    }

    /// Asks the command and everything it started to end; what has not after `grace` is killed.
    ///
    /// # Errors
    /// The session ended.
    pub async fn terminate(&self, grace: Duration) -> Result<(), LinkError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.inner.send(&HostMessage::Terminate { exec: self.id, grace_ms }).await
    }

    /// Tells the command's terminal its new size.
    ///
    /// # Errors
    /// The session ended.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), LinkError> {
        self.inner.send(&HostMessage::Resize { exec: self.id, size }).await
    }
}

impl Inner {
    fn next_number(&self) -> u32 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>, LinkError> {
        let state = unpoisoned(&self.state);
        match &state.closed {
            Some(reason) => Err(reason.clone()),
            None => Ok(state),
        }
    }

    fn reason(&self) -> LinkError {
        unpoisoned(&self.state).closed.clone().unwrap_or(LinkError::Lost)
    }

    async fn send(&self, message: &HostMessage) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).map_err(|error| LinkError::Fault(too_large(&error)))?;
        self.outgoing.send(bytes).await.map_err(|_| self.reason())
    }

    async fn send_frame(&self, frame: &Frame) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).map_err(|error| LinkError::Fault(too_large(&error)))?;
        self.outgoing.send(bytes).await.map_err(|_| self.reason())
    }

    /// Says something without waiting for room. A session that ended needs no farewell.
    fn say_farewell(&self, message: &HostMessage) {
        let mut bytes = Vec::new();
        if message.encode(&mut bytes).is_ok() {
            drop(self.farewells.send(bytes));
        }
    }

    /// Ends the session for everyone who waits on it, and hangs up.
    fn close(&self, reason: LinkError) {
        for task in unpoisoned(&self.tasks).drain(..) {
            task.abort();
        }
        let (replies, execs, connections) = {
            let mut state = unpoisoned(&self.state);
            state.closed.get_or_insert(reason);
            let State { replies, execs, connections, closed: _ } = &mut *state;
            (std::mem::take(replies), std::mem::take(execs), std::mem::take(connections))
        };
        drop(replies);
        execs.into_values().for_each(|entry| entry.stdin.wake());
        connections.into_values().for_each(|entry| entry.window.wake());
    }

    fn handle(&self, frame: Frame) -> Result<(), LinkError> {
        match frame {
            Frame::Data { exec, stream, bytes } => self.handle_output(exec, stream, bytes),
            Frame::Connection { connection, bytes } => self.handle_connection_bytes(connection, bytes),
            Frame::Control(payload) => {
                let message = GuestMessage::decode(&payload).map_err(|error| broken(&error))?;
                self.handle_message(message)
            }
        }
    }

    fn handle_output(&self, exec: ExecId, stream: Stream, bytes: Vec<u8>) -> Result<(), LinkError> {
        if stream == Stream::Stdin {
            return Err(LinkError::Protocol { reason: "sent standard input".to_owned() });
        }
        let mut state = unpoisoned(&self.state);
        // A command whose holder is gone may still print until its kill arrives.
        let Some(entry) = state.execs.get_mut(&exec) else { return Ok(()) };
        let output = entry.output(stream);
        if output.ended {
            return Err(LinkError::Protocol { reason: "sent output after its end".to_owned() });
        }
        if bytes.is_empty() {
            output.ended = true;
            return Ok(());
        }
        output.credit.receive(bytes.len()).map_err(|error| broken(&error))?;
        // The receiver lives as long as the entry, but for the instant between its drop and the entry's removal.
        drop(entry.events.send(ExecEvent::Output(stream, bytes)));
        Ok(())
    }

    fn handle_message(&self, message: GuestMessage) -> Result<(), LinkError> {
        let mut state = unpoisoned(&self.state);
        match message {
            GuestMessage::Welcome { .. } => {
                return Err(LinkError::Protocol { reason: "sent a second welcome".to_owned() });
            }
            GuestMessage::Reply { id, result } => {
                if let Some(waiting) = state.replies.remove(&id) {
                    drop(waiting.send(result.map_err(LinkError::Fault)));
                }
            }
            GuestMessage::Started { exec, pid: _ } => {
                if let Some(started) = state.execs.get_mut(&exec).and_then(|entry| entry.started.take()) {
                    drop(started.send(Ok(())));
                }
            }
            GuestMessage::NotStarted { exec, fault } => {
                if let Some(started) = state.execs.remove(&exec).and_then(|entry| entry.started) {
                    drop(started.send(Err(LinkError::Fault(fault))));
                }
            }
            GuestMessage::Exited { exec, exit, duration_ms } => {
                if let Some(entry) = state.execs.remove(&exec) {
                    drop(entry.events.send(ExecEvent::Exited { exit, duration_ms }));
                    entry.stdin.wake();
                }
            }
            GuestMessage::Credit { exec, bytes } => {
                state.execs.get(&exec).map_or(Ok(()), |entry| entry.stdin.give(bytes))?;
            }
            GuestMessage::Connected { connection } => {
                let waiting = state.connections.get_mut(&connection).and_then(|entry| entry.connected.take());
                drop(waiting.map(|waiting| waiting.send(Ok(()))));
            }
            GuestMessage::NotConnected { connection, fault } => {
                let waiting = state.connections.remove(&connection).and_then(|entry| entry.connected);
                drop(waiting.map(|waiting| waiting.send(Err(LinkError::Fault(fault)))));
            }
            GuestMessage::ConnectionCredit { connection, bytes } => {
                state.connections.get(&connection).map_or(Ok(()), |entry| entry.window.give(bytes))?;
            }
            GuestMessage::ConnectionReset { connection } => {
                drop(state);
                self.handle_reset(connection);
            }
        }
        Ok(())
    }
}

impl ExecEntry {
    fn output(&mut self, stream: Stream) -> &mut OutputCredit {
        if stream == Stream::Stderr { &mut self.stderr } else { &mut self.stdout }
    }
}

async fn welcome(reader: &mut OwnedReadHalf, decoder: &mut Decoder, session: &str) -> Result<(), LinkError> {
    let mut buffer = vec![0; 4096];
    loop {
        if let Some(frame) = decoder.next_frame().map_err(|error| broken(&error))? {
            let Frame::Control(payload) = frame else {
                return Err(LinkError::Protocol { reason: "sent data before its welcome".to_owned() });
            };
            return match GuestMessage::decode(&payload).map_err(|error| broken(&error))? {
                GuestMessage::Welcome { session: named, .. } if named != session => {
                    Err(LinkError::Protocol { reason: "welcomed another session".to_owned() })
                }
                GuestMessage::Welcome { protocol: None, speaks, .. } => {
                    Err(LinkError::Version { agent: speaks, host: ProtocolRange::OURS })
                }
                GuestMessage::Welcome { .. } => Ok(()),
                _ => Err(LinkError::Protocol { reason: "did not begin with a welcome".to_owned() }),
            };
        }
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return Err(LinkError::Lost),
            Ok(count) => decoder.push(&buffer[..count]),
        }
    }
}

async fn write_frames(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<u8>>,
    mut farewells: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    loop {
        let (mut frames, mut last_words) = (Vec::new(), Vec::new());
        tokio::select! {
            Some(frame) = queue.recv() => frames.push(frame),
            Some(words) = farewells.recv() => last_words.push(words),
            else => return,
        }
        while let Ok(words) = farewells.try_recv() {
            last_words.push(words);
        }
        if !last_words.is_empty() {
            // What they are about may still wait to be said itself.
            frames.extend((0..queue.len()).map_while(|_| queue.try_recv().ok()));
        }
        for bytes in frames.into_iter().chain(last_words) {
            // When the stream is gone the reader says so to everyone; here it only remains to stop.
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

async fn read_frames(mut reader: OwnedReadHalf, mut decoder: Decoder, inner: std::sync::Weak<Inner>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = reader.read(&mut buffer).await.unwrap_or(0);
        let Some(inner) = inner.upgrade() else { return };
        decoder.push(&buffer[..count]);
        let result = loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => match inner.handle(frame) {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(broken(&error)),
            }
        };
        match result {
            Ok(()) if count == 0 => return inner.close(LinkError::Lost),
            Ok(()) => {}
            Err(error) => return inner.close(error),
        }
    }
}

fn broken(error: &dyn std::error::Error) -> LinkError {
    LinkError::Protocol { reason: error.to_string() }
}

fn too_large(error: &pyro_wire::FrameError) -> Fault {
    Fault::new(pyro_wire::FaultKind::InvalidArgument, format!("the request is too large: {error}"))
}

/// The data behind a lock whose holder panicked is still whole: every critical section here only moves values.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
