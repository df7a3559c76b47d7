//! The supervisor of one workspace: one loop that owns its machine and its state, from start to end.
//!
//! Everything that happens comes to the loop as an [`Event`], or is the machine's end, a signal, or the passing of time.
//! Connections ([`super::server`]) hold a [`Use`] while they use the machine, and talk to the agent themselves.
//!
//! What is written down is written before what it names is made: `state.json` says which layers the disk has, and what it
//! does not name is removed by whoever holds the life lock next.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyro_network::Policy;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::boot::Ready;
use super::commands::Commands;
use super::ending::Ending;
use super::events::{Event, Loop, Use};
use super::layers;
use super::notes::{host, in_words, log, note_machine, now_seconds, read_json, set_phase, write_state};
use super::ports::{Ports, may_publish};
use super::protocol::{LiveStatus, Refusal, RefusalKind};
use super::secrets::{Secrets, Vault};
use super::server::Served;
use super::services::Services;
use super::shells::Shells;
use super::state::{Life, Wish};
use super::traffic::{self, Witness};
use crate::machine::{Accelerator, DiskLayer};
use crate::store::atomic;
use crate::store::crossing_record::{Crossing, TimeAction};
use crate::store::crossings::{CrossingNotes, CrossingQueue, Crossings};
use crate::store::home::WorkspaceDir;
use crate::store::lock::{Lock, LockError};
use crate::store::workspace_record::{StateRecord, WorkspacePhase, WorkspaceRecord};

/// How long others that only look whether somebody lives may hold the lock that says so.
const LOCK_LIMIT: Duration = Duration::from_secs(1);

/// How often the loop looks at the time.
const TICK: Duration = Duration::from_secs(1);

/// Starts machines for a workspace.
pub trait MachineSource: Send + Sync {
    /// Why there is no machine.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Starts a machine on a disk of these layers. Opens them anew each time it is asked to. `witness` hears of its traffic.
    fn start<'a>(
        &'a self,
        open_layers: OpenLayers<'a>,
        witness: &'a Arc<Witness>,
    ) -> impl Future<Output = Result<(Ready, Accelerator), Self::Error>> + Send;

    /// What its guest may reach from now on.
    ///
    /// # Errors
    /// What is written down of it cannot be understood.
    fn policy(&self) -> Result<Policy, Self::Error>;
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

/// Runs the supervisor of the workspace in `dir`, which knows these secrets: starts its machine, tells `running`, serves its
/// clients, and comes back when the machine is gone for good. `running` answers whether whoever waits for a new workspace is
/// still there.
///
/// # Errors
/// See [`SuperviseError`]. The state says what became of the workspace.
pub async fn supervise<S: MachineSource>(
    dir: WorkspaceDir,
    source: &S,
    secrets: Secrets,
    running: impl FnOnce() -> bool,
) -> Result<(), SuperviseError<S::Error>> {
    let file = |what| move |source| SuperviseError::File { what, source };
    let _life = Lock::take_within(&dir.life_lock(), LOCK_LIMIT)?;
    let record: WorkspaceRecord = read_json(&dir.record()).map_err(file("read the record"))?;
    let mut state: StateRecord = read_json(&dir.state()).map_err(file("read the state"))?;
    layers::remove_others(&dir, &state.disk).map_err(file("tidy the disk"))?;
    // What stays of it takes room and does no other harm.
    drop(atomic::sweep(dir.path()));
    let (sender, events) = mpsc::unbounded_channel();
    let opened = open_served(&dir, secrets, sender.clone());
    let (served, crossings) = opened.map_err(|(what, source)| SuperviseError::File { what, source })?;
    let _socket = RemovedAtEnd(dir.socket());
    let listener = super::socket::listen(&dir.socket()).map_err(file("make the socket"))?;
    let is_new = state.phase == WorkspacePhase::Creating;

    let chain = state.disk.live_chain();
    let witness = Arc::new(Witness::writing(crossings.notes()));
    let (machine, accelerator) = match source.start(&|| layers::open(&dir, &chain), &witness).await {
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
    state.used_at_seconds = now_seconds();
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

    served.services.start_again(&machine.link);
    let Served { commands, shells, services, ports, vault, .. } = served.clone();
    let serving = tokio::spawn(super::server::serve(listener, served));
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
        services,
        ports,
        crossings: crossings.notes(),
        vault,
        shells,
        witness,
        events,
        sender,
        terminate,
        dirty: false,
    };
    keeper.run().await;
    serving.abort();
    crossings.close();
    Ok(())
}

/// A file that goes with its owner, however that ends.
struct RemovedAtEnd(PathBuf);

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        // One that cannot be removed is named by `doctor`.
        drop(std::fs::remove_file(&self.0));
    }
}

/// What clients are served with, and what writes down the crossings; or what of it cannot be had.
fn open_served(
    dir: &WorkspaceDir,
    secrets: Secrets,
    events: mpsc::UnboundedSender<Event>,
) -> Result<(Served, CrossingQueue), (&'static str, io::Error)> {
    let failed = |what| move |error| (what, error);
    let commands = Commands::open(dir).map_err(failed("read the commands"))?;
    let vault = Vault::new(secrets);
    let cleaner = vault.clone();
    let clean = Box::new(move |word: &str| cleaner.cut(word));
    let crossings = CrossingQueue::begin(Crossings::of(dir), clean).map_err(failed("record the crossings"))?;
    let shells = Shells::open(dir, vault.clone()).map_err(failed("read the shells"))?;
    let driver = Loop::new(events);
    let ports = Ports::new(driver.clone(), crossings.notes());
    let services = Services::open(dir, ports.clone(), vault.clone()).map_err(failed("read the services"))?;
    Ok((Served { driver, commands, shells, services, ports, vault, dir: dir.clone() }, crossings))
}

/// What the loop owns.
pub(super) struct Keeper<'a, S> {
    pub(super) dir: WorkspaceDir,
    pub(super) source: &'a S,
    pub(super) state: StateRecord,
    pub(super) machine: Ready,
    pub(super) machine_born: Instant,
    pub(super) life: Life,
    pub(super) born: Instant,
    pub(super) commands: Commands,
    pub(super) services: Services,
    pub(super) ports: Ports,
    pub(super) crossings: CrossingNotes,
    pub(super) vault: Vault,
    pub(super) shells: Shells,
    pub(super) witness: Arc<Witness>,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) sender: mpsc::UnboundedSender<Event>,
    pub(super) terminate: Signal,
    /// Whether the state on disk is older than the one here.
    pub(super) dirty: bool,
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
                    if self.ports.take_stirred() {
                        self.note_use();
                    }
                    if matches!(self.dir.life_lock().try_exists(), Ok(false)) {
                        // Somebody removed its files by hand: there is nothing that it could be found by any more.
                        break Ending::Discard(None);
                    }
                    self.write_if_dirty();
                    if self.life.expired(self.now()) {
                        let seconds = self.life.ttl().as_secs();
                        self.crossings.note(Crossing::TimeToLive { action: TimeAction::Stopped, seconds });
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
                self.note_use();
            }
            Event::Status(answer) => {
                let idle_ms = millis(self.life.idle(self.now()));
                let uptime_ms = millis(self.machine_born.elapsed());
                let secrets = self.vault.names().map(str::to_owned).collect();
                let stalled = self.machine.machine.stalled();
                let (running, shells, services) =
                    (self.commands.running(), self.shells.running(), self.services.alive());
                // A name that a guest asked for may hold what must not be shown.
                let clean = |word: &str| self.vault.cut(word);
                let network = self.machine.network.as_ref().map(|network| traffic::live(network, &self.witness, clean));
                let status = LiveStatus { running, shells, services, idle_ms, uptime_ms, secrets, stalled, network };
                drop(answer.send(status));
            }
            Event::Reset { snapshot, done } => {
                let result = match self.life.admit(Wish::Reset) {
                    Ok(()) => self.reset(&snapshot).await,
                    Err(denied) => Err(Refusal::new(RefusalKind::Phase, denied.to_string())),
                };
                drop(done.send(result));
            }
            Event::TakeSnapshot { name, done } => drop(done.send(self.take_snapshot(name).await)),
            Event::ForgetSnapshot { name, done } => drop(done.send(self.forget_snapshot(&name))),
            Event::Stop { reason, done } => return Some(Ending::Stop { reason, done: Some(done) }),
            Event::Discard(done) => return Some(Ending::Discard(Some(done))),
            Event::Reread(done) => drop(done.send(self.reread())),
            Event::ChangesSeen { digest, done } => {
                self.state.changes_seen = Some(digest);
                drop(done.send(write_state(&self.dir, &self.state).map_err(|error| host("write the state", &error))));
            }
        }
        None
    }

    /// Takes over what the user changed of the record. A machine without a network gets one when it is started anew.
    fn reread(&mut self) -> Result<(), Refusal> {
        let record: WorkspaceRecord = read_json(&self.dir.record()).map_err(|error| host("read the record", &error))?;
        self.life.set_ttl(Duration::from_secs(record.ttl_seconds));
        if let Some(network) = &self.machine.network {
            let policy = self.source.policy();
            network.set_policy(policy.map_err(|error| Refusal::new(RefusalKind::Host, in_words(&error)))?);
        }
        if !may_publish(&record) {
            self.ports.remove_all();
        }
        Ok(())
    }

    fn begin(&mut self, answer: oneshot::Sender<Result<Use, Refusal>>) {
        if let Err(denied) = self.life.admit(Wish::Use) {
            drop(answer.send(Err(Refusal::new(RefusalKind::Phase, denied.to_string()))));
            return;
        }
        if let Err(refusal) = self.check_not_stalled() {
            drop(answer.send(Err(refusal)));
            return;
        }
        self.life.use_began();
        let granted = Use::new(self.machine.link.clone(), self.sender.clone());
        // An answer that nobody takes is dropped, and with it the use.
        drop(answer.send(Ok(granted)));
    }

    /// Notes that it was used just now.
    fn note_use(&mut self) {
        self.life.was_used(self.now());
        self.state.used_at_seconds = now_seconds();
        self.dirty = true;
    }

    fn write_if_dirty(&mut self) {
        if std::mem::take(&mut self.dirty)
            && let Err(error) = write_state(&self.dir, &self.state)
        {
            log(&self.dir, &format!("cannot write the state: {error}"));
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.born.elapsed()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
