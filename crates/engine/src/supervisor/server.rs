//! The supervisor's side of each connection: reads the question, has the loop admit it, carries it out, answers.
//!
//! A command's bytes go from the link to the client and to the command's files here; the loop in [`super::driver`] only
//! hears that a use began and is over.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pyro_wire::message::Request;
use pyro_wire::{Exit, Stream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::commands::{Commands, Record, Words};
use super::events::{Event, Loop, Use};
use super::filters::Filters;
use super::guest_link::{ExecEvent, ExecHandle, ExecStdin, LinkError, RunningExec};
use super::input::Input;
use super::notes::{host, read_json};
use super::ports::{Ports, may_publish};
use super::protocol::{
    Ask, ClientMessage, ExecAsk, PROTOCOL_VERSION, PortAsk, Refusal, RefusalKind, ServerMessage, ServiceAsk, Steer,
};
use super::secrets::{self, Vault};
use super::services::{Services, StopKind};
use super::shell_protocol::ShellAsk;
use super::shells::Shells;
use super::socket::{FrameReader, FrameWriter, Received, split};
use crate::store::home::WorkspaceDir;
use crate::store::workspace_record::WorkspaceRecord;

/// How long a guest may take to write all that it has not written to its disk yet.
const WRITE_LIMIT: Duration = Duration::from_secs(200);

/// Most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 512;

/// What every connection works with.
#[derive(Debug, Clone)]
pub(super) struct Served {
    /// The way to the loop.
    pub(super) driver: Loop,
    /// The commands of the workspace.
    pub(super) commands: Commands,
    /// Its shells.
    pub(super) shells: Shells,
    /// Its services.
    pub(super) services: Services,
    /// Its published ports.
    pub(super) ports: Ports,
    /// Its files.
    pub(super) dir: WorkspaceDir,
    /// Its secrets.
    pub(super) vault: Vault,
}

/// Accepts connections until the supervisor ends.
pub(super) async fn serve(listener: UnixListener, served: Served) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors for a moment: whoever has one will give it back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let served = served.clone();
        tokio::spawn(async move {
            // A client that went away needs no answer.
            drop(answer(stream, served).await);
            drop(slot);
        });
    }
}

async fn answer(stream: UnixStream, served: Served) -> io::Result<()> {
    let Served { driver, commands, shells, services, ports, vault, .. } = &served;
    let (mut reader, mut writer) = split(stream);
    let ask = match reader.next::<ClientMessage>().await {
        Ok(Received::Message(ClientMessage::Ask { protocol: PROTOCOL_VERSION, ask })) => ask,
        Ok(Received::End) => return Ok(()),
        Ok(_) | Err(_) => {
            let words = format!("this supervisor speaks protocol {PROTOCOL_VERSION} only");
            return writer.send(&vault.refused(Refusal::new(RefusalKind::Protocol, words))).await;
        }
    };
    let answer = match ask {
        Ask::Exec(ask) => return Exec { served, reader, writer }.run(*ask).await,
        Ask::Look { cut } => return secrets::look(vault, cut, reader, writer).await,
        Ask::Shell(ShellAsk::Attach { shell, size }) => {
            return shells.attach((shell, size), driver, reader, writer).await;
        }
        Ask::Shell(ask) => shells.answer(ask, driver).await,
        Ask::Wait { sequence } => match commands.ended(sequence).await {
            Some(ended) => Ok(ServerMessage::Ended { ended }),
            None => Err(no_command(sequence)),
        },
        Ask::Kill { sequence } => match commands.handle(sequence) {
            Some(handle) => handle.kill().await.map(|()| ServerMessage::Done).map_err(refusal),
            None => Err(no_command(sequence)),
        },
        Ask::ServiceStart(ask) => served.start_service(*ask, &mut reader).await,
        Ask::ServiceRestart { name, wait_ms } => served.restart_service(&name, wait_ms, &mut reader).await,
        Ask::ServiceStop { name } => served.stop_service(&name).await,
        Ask::Services => Ok(ServerMessage::Services { services: services.list() }),
        Ask::PortAdd(ask) => served.add_port(ask),
        Ask::PortRemove { host } => ports.remove(host).map(|()| ServerMessage::Done),
        Ask::Ports => Ok(ServerMessage::Ports { ports: ports.list() }),
        Ask::Status => driver.ask(Event::Status).await.map(|status| ServerMessage::Status { status }),
        Ask::Reset { snapshot } => driver
            .ask(|done| Event::Reset { snapshot, done })
            .await
            .and_then(|result| result.map(|ended| ServerMessage::WasReset { ended })),
        Ask::TakeSnapshot { name } => take_snapshot(driver, name).await,
        Ask::ForgetSnapshot { name } => driver.ask_result(|done| Event::ForgetSnapshot { name, done }).await,
        Ask::Stop { reason } => driver.ask_result(|done| Event::Stop { reason, done }).await,
        Ask::Discard => driver.ask_result(Event::Discard).await,
        Ask::Reread => driver.ask_result(Event::Reread).await,
        Ask::ChangesSeen { digest } => driver.ask_result(|done| Event::ChangesSeen { digest, done }).await,
    };
    writer.send(&answer.unwrap_or_else(|refusal| vault.refused(refusal))).await
}

/// Has the guest write what it has to write, which may take its time, while everything else goes on; and then the loop take
/// the snapshot, for which the guest holds still.
async fn take_snapshot(driver: &Loop, name: String) -> Result<ServerMessage, Refusal> {
    let granted = driver.begin_use().await?;
    match tokio::time::timeout(WRITE_LIMIT, granted.link().request(Request::Sync)).await {
        Ok(written) => drop(written.map_err(refusal)?),
        Err(_) => {
            let words = format!("the guest did not write its disk within {} s", WRITE_LIMIT.as_secs());
            return Err(Refusal::new(RefusalKind::Unresponsive, words));
        }
    }
    let snapshot = driver.ask(|done| Event::TakeSnapshot { name, done }).await??;
    Ok(ServerMessage::Snapshot { snapshot })
}

/// What is asked of services and ports.
impl Served {
    async fn start_service(&self, ask: ServiceAsk, reader: &mut FrameReader) -> Result<ServerMessage, Refusal> {
        // In use until it is ready; from then on what counts is what comes to it.
        let granted = self.driver.begin_use().await?;
        self.check_may_publish(!ask.publish.is_empty())?;
        let (name, wait_ms) = (ask.name.clone(), ask.wait_ms);
        self.services.start(ask, granted.link().clone()).await?;
        self.settled(&name, wait_ms, reader).await
    }

    async fn restart_service(
        &self,
        name: &str,
        wait_ms: u64,
        reader: &mut FrameReader,
    ) -> Result<ServerMessage, Refusal> {
        let granted = self.driver.begin_use().await?;
        self.services.restart(name, granted.link().clone()).await?;
        self.settled(name, wait_ms, reader).await
    }

    /// Waits until a service is ready, or will not be. One that nobody waits for any more is ended: who left does not know
    /// that it is there.
    async fn settled(&self, name: &str, wait_ms: u64, reader: &mut FrameReader) -> Result<ServerMessage, Refusal> {
        let service = tokio::select! {
            settled = self.services.settled(name, Duration::from_millis(wait_ms)) => settled?,
            _ = reader.next::<ClientMessage>() => {
                self.services.stop(name, "whoever started it left before it was ready", StopKind::ForGood).await?
            }
        };
        Ok(ServerMessage::Service { service: Box::new(service) })
    }

    async fn stop_service(&self, name: &str) -> Result<ServerMessage, Refusal> {
        let _granted = self.driver.begin_use().await?;
        let service = self.services.stop(name, "it was asked to", StopKind::ForGood).await?;
        Ok(ServerMessage::Service { service: Box::new(service) })
    }

    fn add_port(&self, ask: PortAsk) -> Result<ServerMessage, Refusal> {
        self.check_may_publish(true)?;
        self.ports.add(ask, None).map(|pair| ServerMessage::Port { pair })
    }

    fn check_may_publish(&self, publishes: bool) -> Result<(), Refusal> {
        let record: WorkspaceRecord = read_json(&self.dir.record()).map_err(|error| host("read the record", &error))?;
        if publishes && !may_publish(&record) {
            let words = "this workspace's network policy lets no port be published";
            return Err(Refusal::new(RefusalKind::PublishDenied, words));
        }
        Ok(())
    }
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
    served: Served,
    reader: FrameReader,
    writer: FrameWriter,
}

impl Exec {
    async fn run(mut self, ask: ExecAsk) -> io::Result<()> {
        let vault = self.served.vault.clone();
        let stays = ask.stays;
        let filters = Filters::of(&vault, &ask.request.program);
        let (granted, running, record) = match self.start(ask).await {
            Ok(started) => started,
            Err(refusal) => return self.writer.send(&vault.refused(refusal)).await,
        };
        let sequence = record.as_ref().map(Record::sequence);
        let client = self.writer.send(&ServerMessage::Started { sequence }).await.is_ok();
        Course { running, record, writer: client.then_some(self.writer), stays, granted, filters, vault }
            .run(self.reader)
            .await;
        Ok(())
    }

    /// Starts the command and writes it down. One that cannot be written down is killed with what is dropped.
    async fn start(&self, ask: ExecAsk) -> Result<(Use, RunningExec, Option<Record>), Refusal> {
        let Served { driver, commands, vault, .. } = &self.served;
        let ExecAsk { mut request, by, secret_env, .. } = ask;
        let granted = driver.begin_use().await?;
        let words = Words::of(&request, vault);
        vault.grant(&commands.crossings(), &secret_env, "command", &mut request.env)?;
        let running = granted.link().exec(request).await.map_err(refusal)?;
        let record = words.map(|words| commands.start(words, by, running.handle())).transpose();
        let record = record
            .map_err(|error| Refusal::new(RefusalKind::Host, format!("cannot write the command down: {error}")))?;
        Ok((granted, running, record))
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
    filters: Filters,
    vault: Vault,
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
                        let bytes = self.filters.push(stream, bytes);
                        self.pass(stream, bytes).await;
                    }
                    Some(ExecEvent::Exited { exit, duration_ms }) => {
                        self.over(exit, duration_ms).await;
                        break;
                    }
                    None => {
                        let lost = refusal(self.running.lost());
                        self.pass_rest().await;
                        drop(self.record.take());
                        self.tell(&self.vault.refused(lost)).await;
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
                ExecEvent::Output(stream, bytes) => {
                    let bytes = self.filters.push(stream, bytes);
                    self.keep(stream, &bytes);
                }
                ExecEvent::Exited { exit, duration_ms } => return self.over(exit, duration_ms).await,
            }
        }
    }

    async fn pass(&mut self, stream: Stream, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.keep(stream, &bytes);
            self.tell_data(stream, bytes).await;
        }
    }

    /// Passes on what was held back because a secret might have begun with it.
    async fn pass_rest(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.filters.finish(stream);
            self.pass(stream, rest).await;
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
        self.pass_rest().await;
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
        if let Some(due) = input.consume(bytes.len()) {
            drop(heard.send(Heard::Credit(due)));
        }
    }
}
