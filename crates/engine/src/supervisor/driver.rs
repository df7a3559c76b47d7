//! The supervisor of one workspace: one loop that owns its machine and its state, from start to end.
//!
//! Everything that happens comes to the loop as an [`Event`], or is the machine's end, a signal, or the passing of time.
//! Connections ([`super::server`]) hold a [`Use`] while they use the machine, and talk to the agent themselves.
//!
//! What is written down is written before what it names is made: `state.json` says which layers the disk has, and what it
//! does not name is removed by whoever holds the life lock next.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::boot::Ready;
use super::commands::{Commands, now_ms};
use super::guest_link::GuestLink;
use super::layers::{self, Layers};
use super::protocol::{LiveStatus, Refusal, RefusalKind, ServerMessage};
use super::state::{Life, Wish};
use crate::machine::{Accelerator, DiskLayer, MachineExit};
use crate::store::atomic;
use crate::store::home::WorkspaceDir;
use crate::store::lock::{Lock, LockError};
use crate::store::workspace_record::{StateRecord, WorkspacePhase, WorkspaceRecord};

/// How long a guest gets to write everything to its disk and power off.
const SHUT_DOWN_GRACE: Duration = Duration::from_secs(20);

/// How often the loop looks at the time.
const TICK: Duration = Duration::from_secs(1);

/// How long commands get to write down their end when the machine is gone.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// Lines of the guest's console that are kept when the machine is lost.
const CONSOLE_LINES: usize = 12;

/// Starts machines for a workspace.
pub trait MachineSource: Send + Sync {
    /// Why there is no machine.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Starts a machine on a disk of these layers. Opens them anew each time it is asked to.
    fn start<'a>(
        &'a self,
        open_layers: OpenLayers<'a>,
    ) -> impl Future<Output = Result<(Ready, Accelerator), Self::Error>> + Send;
}

/// Opens the layers of a workspace's disk.
pub type OpenLayers<'a> = &'a (dyn Fn() -> io::Result<Vec<DiskLayer>> + Send + Sync);

/// Why a workspace has no supervisor.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError<E: std::error::Error + 'static> {
    /// It has one.
    #[error("the workspace has a supervisor already")]
    Lock(#[from] LockError),
    /// Its machine did not start.
    #[error(transparent)]
    Machine(E),
    /// A file of it cannot be read or written.
    #[error("cannot {what} of the workspace")]
    File {
        /// What was being done.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Whoever made it is gone, and nobody else knows of it.
    #[error("whoever made the workspace went away")]
    MakerGone,
}

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Event {
    /// Someone wants to use the machine.
    Begin(oneshot::Sender<Result<Use, Refusal>>),
    /// A use is over.
    Over,
    /// Someone wants to know what is going on.
    Status(oneshot::Sender<LiveStatus>),
    /// The machine is to be reset.
    Reset(Done),
    /// It is to be ended, and its disk kept.
    Stop {
        /// Why.
        reason: String,
        /// Who is to be told.
        done: Done,
    },
    /// It is to be ended, and nobody needs its disk.
    Discard(Done),
    /// The record was changed.
    Reread(Done),
    /// The changes of this digest were seen.
    ChangesSeen {
        /// The digest.
        digest: String,
        /// Who is to be told.
        done: Done,
    },
}

/// Who is told that something is done, or why it is not.
pub(super) type Done = oneshot::Sender<Result<(), Refusal>>;

/// The way to the loop.
#[derive(Debug, Clone)]
pub(super) struct Loop {
    events: mpsc::UnboundedSender<Event>,
}

/// A use of the machine; it is over when this is dropped.
#[derive(Debug)]
pub(super) struct Use {
    link: GuestLink,
    events: Option<mpsc::UnboundedSender<Event>>,
}

impl Loop {
    /// Asks to use the machine.
    pub(super) async fn begin_use(&self) -> Result<Use, Refusal> {
        self.ask(Event::Begin).await?
    }

    /// Asks for something that is done or not.
    pub(super) async fn ask_result(&self, event: impl FnOnce(Done) -> Event) -> Result<ServerMessage, Refusal> {
        self.ask(event).await?.map(|()| ServerMessage::Done)
    }

    /// Asks for an answer.
    pub(super) async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Result<T, Refusal> {
        let gone = || Refusal::new(RefusalKind::Phase, "the workspace is just being stopped");
        let (sender, answer) = oneshot::channel();
        self.events.send(event(sender)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

impl Use {
    /// The way to the agent.
    pub(super) fn link(&self) -> &GuestLink {
        &self.link
    }

    /// Says that the use is over.
    pub(super) fn over(&mut self) {
        if let Some(events) = self.events.take() {
            // A loop that is gone counts no more.
            drop(events.send(Event::Over));
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.over();
    }
}

/// Runs the supervisor of the workspace in `dir`: starts its machine, tells `running`, serves its clients, and comes back
/// when the machine is gone for good. `running` answers whether whoever waits for a new workspace is still there.
///
/// # Errors
/// See [`SuperviseError`]. The state says what became of the workspace.
pub async fn supervise<S: MachineSource>(
    dir: WorkspaceDir,
    source: &S,
    running: impl FnOnce() -> bool,
) -> Result<(), SuperviseError<S::Error>> {
    let file = |what| move |source| SuperviseError::File { what, source };
    let _life = Lock::try_take(&dir.life_lock())?;
    let record: WorkspaceRecord = read_json(&dir.record()).map_err(file("read the record"))?;
    let mut state: StateRecord = read_json(&dir.state()).map_err(file("read the state"))?;
    layers::remove_others(&dir, &state.layers).map_err(file("tidy the disk"))?;
    let commands = Commands::open(&dir).map_err(file("read the commands"))?;
    let listener = super::socket::listen(&dir.socket()).map_err(file("make the socket"))?;
    let is_new = state.phase == WorkspacePhase::Creating;

    let layers = Layers::new(&dir, state.layers.clone());
    let (machine, accelerator) = match source.start(&|| layers.open()).await {
        Ok(started) => started,
        Err(error) => {
            if !is_new {
                set_phase(&mut state, WorkspacePhase::Failed, Some(in_words(&error)));
                write_state(&dir, &state).map_err(file("write the state"))?;
            }
            return Err(SuperviseError::Machine(error));
        }
    };
    set_phase(&mut state, WorkspacePhase::Running, None);
    let now_seconds = now_seconds();
    state.used_at_seconds = now_seconds;
    state.supervisor_pid = Some(std::process::id());
    note_machine(&mut state, &machine, accelerator);
    write_state(&dir, &state).map_err(file("write the state"))?;
    if !running() && is_new {
        machine.abandon().await;
        // Unfinished, and without a maker: rubbish for whoever looks next.
        set_phase(&mut state, WorkspacePhase::Creating, None);
        write_state(&dir, &state).map_err(file("write the state"))?;
        return Err(SuperviseError::MakerGone);
    }

    let (sender, events) = mpsc::unbounded_channel();
    let serving = tokio::spawn(super::server::serve(listener, Loop { events: sender.clone() }, commands.clone()));
    let born = Instant::now();
    let life = Life::new(Duration::from_secs(record.ttl_seconds), Duration::ZERO);
    let terminate = signal(SignalKind::terminate()).map_err(file("listen for signals"))?;
    let keeper = Keeper {
        dir: dir.clone(),
        source,
        state,
        machine,
        machine_born: born,
        life,
        born,
        commands,
        events,
        sender,
        terminate,
        dirty: false,
    };
    keeper.run().await;
    serving.abort();
    drop(std::fs::remove_file(dir.socket()));
    Ok(())
}

/// What the loop owns.
struct Keeper<'a, S> {
    dir: WorkspaceDir,
    source: &'a S,
    state: StateRecord,
    machine: Ready,
    machine_born: Instant,
    life: Life,
    born: Instant,
    commands: Commands,
    events: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
    terminate: Signal,
    /// Whether the state on disk is older than the one here.
    dirty: bool,
}

/// How the supervisor comes to its end.
enum Ending {
    Stop { reason: String, done: Option<Done> },
    Discard(Done),
    Lost(MachineExit),
}

impl<S: MachineSource> Keeper<'_, S> {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        let ending = loop {
            tokio::select! {
                Some(event) = self.events.recv() => {
                    if let Some(ending) = self.handle(event).await {
                        break ending;
                    }
                }
                exit = self.machine.machine.wait() => break Ending::Lost(exit),
                _ = tick.tick() => {
                    self.write_if_dirty();
                    if self.life.expired(self.now()) {
                        break Ending::Stop { reason: "nobody used it for its time to live".to_owned(), done: None };
                    }
                }
                Some(()) = self.terminate.recv() => {
                    break Ending::Stop { reason: "the host asked its processes to end".to_owned(), done: None };
                }
            }
        };
        self.end(ending).await;
    }

    async fn handle(&mut self, event: Event) -> Option<Ending> {
        match event {
            Event::Begin(answer) => self.begin(answer),
            Event::Over => {
                self.life.use_over(self.now());
                self.state.used_at_seconds = now_seconds();
                self.dirty = true;
            }
            Event::Status(answer) => {
                let idle_ms = millis(self.life.idle(self.now()));
                let uptime_ms = millis(self.machine_born.elapsed());
                drop(answer.send(LiveStatus { running: self.commands.running(), idle_ms, uptime_ms }));
            }
            Event::Reset(done) => {
                let result = match self.life.admit(Wish::Reset) {
                    Ok(()) => self.reset().await,
                    Err(denied) => Err(Refusal::new(RefusalKind::Phase, denied.to_string())),
                };
                drop(done.send(result));
            }
            Event::Stop { reason, done } => return Some(Ending::Stop { reason, done: Some(done) }),
            Event::Discard(done) => return Some(Ending::Discard(done)),
            Event::Reread(done) => {
                let record = read_json::<WorkspaceRecord>(&self.dir.record());
                if let Ok(record) = &record {
                    self.life.set_ttl(Duration::from_secs(record.ttl_seconds));
                }
                drop(done.send(record.map(drop).map_err(|error| host("read the record", &error))));
            }
            Event::ChangesSeen { digest, done } => {
                self.state.changes_seen = Some(digest);
                drop(done.send(write_state(&self.dir, &self.state).map_err(|error| host("write the state", &error))));
            }
        }
        None
    }

    fn begin(&mut self, answer: oneshot::Sender<Result<Use, Refusal>>) {
        if let Err(denied) = self.life.admit(Wish::Use) {
            drop(answer.send(Err(Refusal::new(RefusalKind::Phase, denied.to_string()))));
            return;
        }
        self.life.use_began();
        let granted = Use { link: self.machine.link.clone(), events: Some(self.sender.clone()) };
        // An answer that nobody takes is dropped, and with it the use.
        drop(answer.send(Ok(granted)));
    }

    /// Another machine on a fresh layer over the bottom one takes the place of this one, which is given up only when the
    /// other answers.
    async fn reset(&mut self) -> Result<(), Refusal> {
        self.life.reset_began();
        let result = self.replace_machine().await;
        self.life.reset_over(self.now());
        result
    }

    async fn replace_machine(&mut self) -> Result<(), Refusal> {
        let before = self.state.clone();
        let fresh = layers::name(self.state.next_layer);
        let layers = vec![self.state.layers[0].clone(), fresh];
        self.state.next_layer += 1;
        write_state(&self.dir, &self.state).map_err(|error| host("write the state", &error))?;
        let fresh = Layers::new(&self.dir, layers.clone());
        fresh.create_top().map_err(|error| host("make a layer of the disk", &error))?;
        let (machine, accelerator) = match self.source.start(&|| fresh.open()).await {
            Ok(started) => started,
            Err(error) => {
                drop(layers::remove_others(&self.dir, &before.layers));
                return Err(Refusal::new(RefusalKind::Host, in_words(&error)));
            }
        };
        self.state.layers = layers;
        self.state.reset_count += 1;
        self.state.reset_at_seconds = Some(now_seconds());
        self.state.changes_seen = None;
        note_machine(&mut self.state, &machine, accelerator);
        if let Err(error) = write_state(&self.dir, &self.state) {
            machine.abandon().await;
            self.state = before;
            return Err(host("write the state", &error));
        }
        std::mem::replace(&mut self.machine, machine).abandon().await;
        self.machine_born = Instant::now();
        // What cannot be removed now is removed by the next supervisor.
        drop(layers::remove_others(&self.dir, &self.state.layers));
        Ok(())
    }

    async fn end(mut self, ending: Ending) {
        self.life.end_began();
        let (phase, reason, told) = match ending {
            Ending::Stop { reason, done } => {
                let result = self.machine.shut_down(SHUT_DOWN_GRACE).await;
                if let Err(error) = &result {
                    log(&self.dir, &format!("the guest did not shut down in order: {error}"));
                }
                (WorkspacePhase::Stopped, reason, done)
            }
            Ending::Discard(done) => {
                self.machine.abandon().await;
                (WorkspacePhase::Stopped, "it is being deleted".to_owned(), Some(done))
            }
            Ending::Lost(exit) => {
                let console = self.machine.machine.console_tail(CONSOLE_LINES);
                log(&self.dir, &format!("the machine was lost: {exit}\n{console}"));
                self.machine.abandon().await;
                (WorkspacePhase::Failed, format!("its machine was lost: {exit}"), None)
            }
        };
        // Commands hear of the lost link, and write down their end.
        let deadline = tokio::time::Instant::now() + LAST_WORDS_LIMIT;
        while self.life.uses() > 0 {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some(Event::Over)) => self.life.use_over(Duration::ZERO),
                // Dropping what is asked answers it.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        set_phase(&mut self.state, phase, Some(reason));
        let written = write_state(&self.dir, &self.state).map_err(|error| host("write the state", &error));
        if let Some(done) = told {
            drop(done.send(written));
            // The answer is on its way through the connection's task.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn write_if_dirty(&mut self) {
        if std::mem::take(&mut self.dirty)
            && let Err(error) = write_state(&self.dir, &self.state)
        {
            log(&self.dir, &format!("cannot write the state: {error}"));
        }
    }

    fn now(&self) -> Duration {
        self.born.elapsed()
    }
}

/// Adds a line to the supervisor's log.
pub(super) fn log(dir: &WorkspaceDir, line: &str) {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(dir.supervisor_log());
    // A log that cannot be written is nobody's failure.
    drop(file.and_then(|mut file| writeln!(file, "{} {line}", now_seconds())));
}

/// Reads a record.
///
/// # Errors
/// It is not there, or is none.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Writes the state.
///
/// # Errors
/// As the system calls.
pub fn write_state(dir: &WorkspaceDir, state: &StateRecord) -> io::Result<()> {
    atomic::write(&dir.state(), &serde_json::to_vec_pretty(state)?)
}

/// Notes that a workspace entered a phase now.
pub fn set_phase(state: &mut StateRecord, phase: WorkspacePhase, reason: Option<String>) {
    state.phase = phase;
    state.since_seconds = now_seconds();
    state.reason = reason;
    if phase != WorkspacePhase::Running {
        (state.accelerator, state.supervisor_pid, state.machine_pid) = (None, None, None);
    }
}

fn note_machine(state: &mut StateRecord, machine: &Ready, accelerator: Accelerator) {
    let name = match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    state.accelerator = Some(name.to_owned());
    state.machine_pid = Some(machine.machine.process_id());
}

/// Seconds since 1970.
#[must_use]
pub fn now_seconds() -> u64 {
    now_ms() / 1000
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn host(what: &str, error: &io::Error) -> Refusal {
    Refusal::new(RefusalKind::Host, format!("cannot {what}: {error}"))
}

/// An error and its causes in one line.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.ends_with(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        source = cause.source();
    }
    words
}
