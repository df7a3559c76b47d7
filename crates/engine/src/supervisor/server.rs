//! The supervisor's side of each connection: reads the question, has the loop admit it, carries it out, answers.
//!
//! A command's bytes go from the link to the client and to the command's files here; the loop in [`super::driver`] only
//! hears that a use began and is over.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyro_wire::credit::ReceiveCredit;
use pyro_wire::exec::{ExecRequest, Program};
use pyro_wire::{Exit, Stream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::commands::{Commands, Record, Words};
use super::driver::{Event, Loop, Use};
use super::guest_link::{ExecEvent, ExecHandle, ExecStdin, LinkError, RunningExec};
use super::protocol::{Ask, ClientMessage, ExecAsk, PROTOCOL_VERSION, Refusal, RefusalKind, ServerMessage, Steer};
use super::socket::{FrameReader, FrameWriter, Received, split};

/// Most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 512;

/// Accepts connections until the supervisor ends.
pub(super) async fn serve(listener: UnixListener, driver: Loop, commands: Commands) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors for a moment: whoever has one will give it back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (driver, commands) = (driver.clone(), commands.clone());
        tokio::spawn(async move {
            // A client that went away needs no answer.
            drop(answer(stream, driver, commands).await);
            drop(slot);
        });
    }
}

async fn answer(stream: UnixStream, driver: Loop, commands: Commands) -> io::Result<()> {
    let (mut reader, mut writer) = split(stream);
    let ask = match reader.next::<ClientMessage>().await {
        Ok(Received::Message(ClientMessage::Ask { protocol: PROTOCOL_VERSION, ask })) => ask,
        Ok(Received::End) => return Ok(()),
        Ok(_) | Err(_) => {
            let words = format!("this supervisor speaks protocol {PROTOCOL_VERSION} only");
            return writer.send(&refused(Refusal::new(RefusalKind::Protocol, words))).await;
        }
    };
    let answer = match ask {
        Ask::Exec(ask) => return Exec { driver, commands, reader, writer }.run(*ask).await,
        Ask::Wait { sequence } => match commands.ended(sequence).await {
            Some(ended) => Ok(ServerMessage::Ended { ended }),
            None => Err(no_command(sequence)),
        },
        Ask::Kill { sequence } => match commands.handle(sequence) {
            Some(handle) => handle.kill().await.map(|()| ServerMessage::Done).map_err(refusal),
            None => Err(no_command(sequence)),
        },
        Ask::Status => driver.ask(Event::Status).await.map(|status| ServerMessage::Status { status }),
        Ask::Reset => driver.ask_result(Event::Reset).await,
        Ask::Stop { reason } => driver.ask_result(|done| Event::Stop { reason, done }).await,
        Ask::Discard => driver.ask_result(Event::Discard).await,
        Ask::Reread => driver.ask_result(Event::Reread).await,
        Ask::ChangesSeen { digest } => driver.ask_result(|done| Event::ChangesSeen { digest, done }).await,
    };
    writer.send(&answer.unwrap_or_else(refused)).await
}

fn refused(refusal: Refusal) -> ServerMessage {
    ServerMessage::Refused { refusal }
}

fn no_command(sequence: u64) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("no command {sequence} runs or ran in this workspace"))
}

pub(super) fn refusal(error: LinkError) -> Refusal {
    let kind = match &error {
        LinkError::Fault(fault) => RefusalKind::Fault(fault.kind),
        LinkError::Lost | LinkError::Protocol { .. } | LinkError::Version { .. } => RefusalKind::MachineLost,
    };
    Refusal::new(kind, error.to_string())
}

/// A connection that runs a command.
struct Exec {
    driver: Loop,
    commands: Commands,
    reader: FrameReader,
    writer: FrameWriter,
}

impl Exec {
    async fn run(mut self, ask: ExecAsk) -> io::Result<()> {
        let granted = match self.driver.begin_use().await {
            Ok(granted) => granted,
            Err(refusal) => return self.writer.send(&refused(refusal)).await,
        };
        let words = words(&ask.request);
        let running = match granted.link().exec(ask.request).await {
            Ok(running) => running,
            Err(error) => return self.writer.send(&refused(refusal(error))).await,
        };
        let record = match words.map(|words| self.commands.start(words, ask.by, running.handle())).transpose() {
            Ok(record) => record,
            // The command is killed with `running`.
            Err(error) => {
                let words = format!("cannot write the command down: {error}");
                return self.writer.send(&refused(Refusal::new(RefusalKind::Host, words))).await;
            }
        };
        let sequence = record.as_ref().map(Record::sequence);
        let client = self.writer.send(&ServerMessage::Started { sequence }).await.is_ok();
        Course { running, record, writer: client.then_some(self.writer), stays: ask.stays, granted }
            .run(self.reader)
            .await;
        Ok(())
    }
}

/// What is written down of a command; nothing of a tool.
fn words(request: &ExecRequest) -> Option<Words> {
    match &request.program {
        Program::Argv(argv) => Some(Words::new(argv.iter().map(|word| word.as_bytes()), request.cwd.as_bytes())),
        Program::Tool(_) => None,
    }
}

/// A command on its way to its end.
struct Course {
    running: RunningExec,
    record: Option<Record>,
    /// None once the client is gone.
    writer: Option<FrameWriter>,
    stays: bool,
    granted: Use,
}

/// What the reading half of the connection has to say to the other.
enum Heard {
    Credit(u32),
    ClientLeft,
}

impl Course {
    async fn run(mut self, reader: FrameReader) {
        let (sender, mut heard) = mpsc::unbounded_channel();
        let stdin = self.running.take_stdin();
        let listening = tokio::spawn(listen(reader, self.running.handle(), stdin, sender));
        if self.writer.is_none() && !self.stays {
            return listening.abort();
        }
        loop {
            tokio::select! {
                event = self.running.next() => match event {
                    Some(ExecEvent::Output(stream, bytes)) => {
                        self.keep(stream, &bytes);
                        self.tell_data(stream, bytes).await;
                    }
                    Some(ExecEvent::Exited { exit, duration_ms }) => {
                        self.over(exit, duration_ms).await;
                        break;
                    }
                    None => {
                        let lost = refusal(self.running.lost());
                        drop(self.record.take());
                        self.tell(&refused(lost)).await;
                        break;
                    }
                },
                Some(heard) = heard.recv() => match heard {
                    Heard::Credit(bytes) => self.tell(&ServerMessage::Credit { bytes }).await,
                    Heard::ClientLeft => self.writer = None,
                },
            }
            if self.writer.is_none() && !self.stays {
                // Nobody waits for it: dropping it kills it, and its end is still written down.
                self.kill().await;
                break;
            }
        }
        listening.abort();
    }

    async fn kill(&mut self) {
        if self.running.handle().kill().await.is_err() {
            return;
        }
        while let Some(event) = self.running.next().await {
            match event {
                ExecEvent::Output(stream, bytes) => self.keep(stream, &bytes),
                ExecEvent::Exited { exit, duration_ms } => return self.over(exit, duration_ms).await,
            }
        }
    }

    /// Keeps output for later readers. A full disk costs them the rest, not the command.
    fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(record) = &mut self.record
            && let Err(error) = record.output(stream == Stream::Stderr, bytes)
        {
            record.complain(&error);
        }
    }

    async fn over(&mut self, exit: Exit, duration_ms: u64) {
        if let Some(record) = self.record.take() {
            record.finish(exit, duration_ms);
        }
        // Who hears of the end may ask at once whether it is still in use.
        self.granted.over();
        self.tell(&ServerMessage::Exited { exit, duration_ms }).await;
    }

    async fn tell(&mut self, message: &ServerMessage) {
        if let Some(writer) = &mut self.writer
            && writer.send(message).await.is_err()
        {
            self.writer = None;
        }
    }

    async fn tell_data(&mut self, stream: Stream, bytes: Vec<u8>) {
        if let Some(writer) = &mut self.writer
            && writer.data(stream, bytes).await.is_err()
        {
            self.writer = None;
        }
    }
}

/// Reads what the client sends until it leaves. Its standard input is passed on by another task, so that a command that
/// does not read never holds up what steers it; credit bounds what waits.
async fn listen(
    mut reader: FrameReader,
    handle: ExecHandle,
    stdin: Option<ExecStdin>,
    heard: mpsc::UnboundedSender<Heard>,
) {
    let input = Arc::new(Input::default());
    let passing = stdin.map(|stdin| tokio::spawn(pass_on(Arc::clone(&input), stdin, heard.clone())));
    loop {
        match reader.next::<ClientMessage>().await {
            Ok(Received::Message(ClientMessage::Steer { steer })) => {
                // A session that ended is told by the command's events.
                drop(match steer {
                    Steer::Signal(signal) => handle.signal(signal).await,
                    Steer::Resize(size) => handle.resize(size).await,
                    Steer::Kill => handle.kill().await,
                });
            }
            Ok(Received::Data(Stream::Stdin, bytes)) => {
                if !input.push(bytes) {
                    break;
                }
            }
            Ok(Received::Message(ClientMessage::Ask { .. }) | Received::Data(..) | Received::End) | Err(_) => break,
        }
    }
    if let Some(passing) = passing {
        passing.abort();
    }
    drop(heard.send(Heard::ClientLeft));
}

/// Standard input that waits for the command to take it.
#[derive(Debug, Default)]
struct Input {
    state: Mutex<InputState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct InputState {
    waiting: VecDeque<Vec<u8>>,
    credit: ReceiveCredit,
}

impl Input {
    /// Whether the client had credit for these bytes; they wait then.
    fn push(&self, bytes: Vec<u8>) -> bool {
        let mut state = self.state();
        let within = state.credit.receive(bytes.len()).is_ok();
        state.waiting.push_back(bytes);
        self.changed.notify_one();
        within
    }

    async fn pop(&self) -> Vec<u8> {
        loop {
            if let Some(bytes) = self.state().waiting.pop_front() {
                return bytes;
            }
            self.changed.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, InputState> {
        // Every critical section only moves values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn pass_on(input: Arc<Input>, mut stdin: ExecStdin, heard: mpsc::UnboundedSender<Heard>) {
    loop {
        let bytes = input.pop().await;
        if bytes.is_empty() {
            drop(stdin.close().await);
            return;
        }
        if stdin.write(&bytes).await.is_err() {
            return;
        }
        if let Some(due) = input.state().credit.consume(bytes.len()) {
            drop(heard.send(Heard::Credit(due)));
        }
    }
}
