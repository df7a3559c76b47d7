//! The services of a workspace: commands that the supervisor itself holds, under a name.
//!
//! Each has a task ([`run`]) that owns its process, its log and its life ([`life`]); whoever wants something of it asks
//! through this table. What is written down is written before what it names is made, so that the next supervisor knows what
//! there was; what is to come back with the workspace is started again by it.

mod life;
mod ready;
mod run;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyro_wire::exec::ExecRequest;
use tokio::sync::{mpsc, watch};

use self::life::ServiceLife;
pub(super) use self::run::StopKind;
use self::run::{Course, Order, Orders, STOP_GRACE, STOP_SLACK};
use super::commands::{Words, now_ms};
use super::filters::Filters;
use super::guest_link::{GuestLink, RunningExec};
use super::notes::{host, log, read_json};
use super::ports::Ports;
use super::protocol::{PortAsk, ReadyBy, Refusal, RefusalKind, ServiceAsk};
use super::secrets::Vault;
use crate::store::crossings::Crossings;
use crate::store::home::{WorkspaceDir, create_private_dir};
use crate::store::service_log::ServiceLogWriter;
use crate::store::service_record::{SERVICE_RECORD_VERSION, ServiceRecord, ServiceState, names};
use crate::store::{atomic, service_record};

/// Services that a workspace may have, ended ones too.
pub const SERVICES_MAX: usize = 32;

/// What is put into a log between two runs of a service.
const AGAIN: &[u8] = b"[pyro: started again]\n";

/// How long services may take to write down that they ended when their machine is gone.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// The services of one workspace.
#[derive(Debug, Clone)]
pub(super) struct Services {
    dir: WorkspaceDir,
    ports: Ports,
    vault: Vault,
    table: Arc<Mutex<BTreeMap<String, Entry>>>,
}

#[derive(Debug, Clone)]
struct Entry {
    record: watch::Receiver<ServiceRecord>,
    /// Heard as soon as its process is there, and not any more when it ended; none of one that an earlier supervisor had.
    orders: Option<mpsc::UnboundedSender<Order>>,
    /// How it was started; none of one that an earlier supervisor had.
    ask: Option<Arc<ServiceAsk>>,
}

impl Services {
    /// Those of the workspace in `dir`. What an earlier supervisor left running ended with it.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn open(dir: &WorkspaceDir, ports: Ports, vault: Vault) -> io::Result<Self> {
        let known = |record: ServiceRecord| {
            let name = record.name.clone();
            let (_, record) = watch::channel(record);
            (name, Entry { record, orders: None, ask: None })
        };
        let table = at_rest(dir)?.into_iter().map(known).collect();
        Ok(Self { dir: dir.clone(), ports, vault, table: Arc::new(Mutex::new(table)) })
    }

    /// Starts those again that are to come back with their workspace.
    pub(super) fn start_again(&self, link: &GuestLink) {
        let names: Vec<String> = self.table().keys().cloned().collect();
        for name in names {
            let Ok(ask) = read_json::<ServiceAsk>(&self.dir.service_start(&name)) else { continue };
            let (services, link) = (self.clone(), link.clone());
            tokio::spawn(async move {
                if let Err(refusal) = services.start(ask, link).await {
                    log(&services.dir, &format!("cannot start service {name} again: {refusal}"));
                }
            });
        }
    }

    /// Starts a service. It is starting, or running, then.
    ///
    /// # Errors
    /// It runs, its ports are taken, its program is not there.
    pub(super) async fn start(&self, ask: ServiceAsk, link: GuestLink) -> Result<(), Refusal> {
        let (reserved, told, orders) = self.reserve(&ask)?;
        let pairs = self.ports.add_all(&ask.publish, &ask.name)?;
        let (record, log) = match self.prepare(&ask, pairs) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.ports.remove_of(&ask.name);
                return Err(host("write the service down", &error));
            }
        };
        let mut request = ask.request.clone();
        let running = match self.launch(&ask, &mut request, &link).await {
            Ok(running) => running,
            Err(refusal) => {
                self.give_up(&ask, record, &refusal, &told);
                reserved.keep(ask);
                return Err(refusal);
            }
        };
        let fixed = ServiceAsk {
            publish: record.ports.iter().map(|pair| PortAsk { guest: pair.guest, host: Some(pair.host) }).collect(),
            ..ask
        };
        let life = ServiceLife::new(fixed.ready.is_some());
        let record = ServiceRecord { state: life.state(), ..record };
        told.send_replace(record.clone());
        let filters = Filters::of(&self.vault, &request.program);
        let probe = fixed.ready.clone();
        let ready = async move {
            match probe {
                Some(probe) => ready::await_ready(link, probe, request).await,
                None => std::future::pending().await,
            }
        };
        reserved.keep(fixed);
        let services = self.clone();
        let course =
            Course { services, running, life, record, log, filters, orders, told, stop: None, complained: false };
        tokio::spawn(course.run(ready));
        Ok(())
    }

    /// Gives a service its secrets and starts its process.
    async fn launch(
        &self,
        ask: &ServiceAsk,
        request: &mut ExecRequest,
        link: &GuestLink,
    ) -> Result<RunningExec, Refusal> {
        self.vault.grant(&Crossings::of(&self.dir), &ask.secret_env, &ask.name, &mut request.env)?;
        link.exec(request.clone()).await.map_err(super::server::refusal)
    }

    /// Writes down that a service could not be started.
    fn give_up(&self, ask: &ServiceAsk, record: ServiceRecord, refusal: &Refusal, told: &watch::Sender<ServiceRecord>) {
        self.ports.remove_of(&ask.name);
        forget_start(&self.dir, &ask.name);
        let (ended_at_ms, reason) = (Some(now_ms()), Some(self.vault.cut(&refusal.message)));
        let failed = ServiceRecord { state: ServiceState::Failed, ended_at_ms, reason, ports: Vec::new(), ..record };
        // The one who asked is told all the same.
        drop(write_record(&self.dir, &failed));
        told.send_replace(failed);
    }

    /// What a service is when it is not starting any more, or `limit` is over.
    pub(super) async fn settled(&self, name: &str, limit: Duration) -> Result<ServiceRecord, Refusal> {
        let mut record = self.entry(name)?.record;
        drop(tokio::time::timeout(limit, record.wait_for(|record| record.state != ServiceState::Starting)).await);
        Ok(self.now(&record))
    }

    /// Ends a service, and waits until it has.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn stop(&self, name: &str, reason: &str, kind: StopKind) -> Result<ServiceRecord, Refusal> {
        let Entry { mut record, orders, .. } = self.entry(name)?;
        if let Some(orders) = orders {
            // One that ended this moment hears nothing and needs to.
            drop(orders.send(Order { reason: reason.to_owned(), kind }));
        }
        let limit = STOP_GRACE + 2 * STOP_SLACK;
        drop(tokio::time::timeout(limit, record.wait_for(|record| !record.state.is_alive())).await);
        if kind == StopKind::ForGood && !record.borrow().state.is_alive() {
            // Also of one that had ended by itself.
            self.ports.remove_of(name);
            forget_start(&self.dir, name);
        }
        Ok(self.now(&record))
    }

    /// Ends a service if it runs, and starts it as it was started before.
    ///
    /// # Errors
    /// There is none, or nothing is known of how it was started.
    pub(super) async fn restart(&self, name: &str, link: GuestLink) -> Result<(), Refusal> {
        let forgotten = || {
            let words = format!("service {name} was started before its workspace was, and how is not written down");
            Refusal::new(RefusalKind::ServiceForgotten, words)
        };
        let ask = self.entry(name)?.ask.ok_or_else(forgotten)?;
        self.stop(name, "it is started again", StopKind::Restart).await?;
        self.start(ServiceAsk::clone(&ask), link).await
    }

    /// Asks all that run to end, and waits until they have; when their machine is gone, until they wrote it down.
    pub(super) async fn stop_all(&self, reason: &str, machine_is_there: bool) {
        let limit = if machine_is_there { STOP_GRACE + STOP_SLACK } else { LAST_WORDS_LIMIT };
        let alive: Vec<Entry> =
            self.table().values().filter(|entry| entry.record.borrow().state.is_alive()).cloned().collect();
        for entry in &alive {
            let order = Order { reason: reason.to_owned(), kind: StopKind::WithWorkspace };
            drop(entry.orders.as_ref().map(|orders| orders.send(order)));
        }
        let deadline = tokio::time::Instant::now() + limit;
        for mut entry in alive {
            drop(tokio::time::timeout_at(deadline, entry.record.wait_for(|record| !record.state.is_alive())).await);
        }
    }

    /// Tells all that run why they are about to be lost with their machine.
    pub(super) fn tell_of_end(&self, reason: &str) {
        for entry in self.table().values() {
            let order = Order { reason: reason.to_owned(), kind: StopKind::ForGood };
            drop(entry.orders.as_ref().map(|orders| orders.send(order)));
        }
    }

    /// All of them, by name.
    pub(super) fn list(&self) -> Vec<ServiceRecord> {
        self.table().values().map(|entry| self.now(&entry.record)).collect()
    }

    /// The names of those that run.
    pub(super) fn alive(&self) -> Vec<String> {
        self.list().into_iter().filter(|record| record.state.is_alive()).map(|record| record.name).collect()
    }

    /// What is known of one, with those of its ports that are still published.
    fn now(&self, record: &watch::Receiver<ServiceRecord>) -> ServiceRecord {
        let mut now = record.borrow().clone();
        now.ports.retain(|pair| self.ports.is_of(*pair, &now.name));
        now
    }

    fn entry(&self, name: &str) -> Result<Entry, Refusal> {
        self.table()
            .get(name)
            .cloned()
            .ok_or_else(|| Refusal::new(RefusalKind::NoService, format!("this workspace has no service {name}")))
    }

    /// Keeps a name for a service that is about to be started. What is ordered from then on waits for it.
    fn reserve(&self, ask: &ServiceAsk) -> Result<(Reserved, watch::Sender<ServiceRecord>, Orders), Refusal> {
        let mut table = self.table();
        let before = table.get(&ask.name).cloned();
        if before.as_ref().is_some_and(|entry| entry.record.borrow().state.is_alive()) {
            let words = format!("service {} runs already", ask.name);
            return Err(Refusal::new(RefusalKind::ServiceRuns, words));
        }
        if before.is_none() && table.len() >= SERVICES_MAX {
            let words = format!("the workspace has {SERVICES_MAX} services already");
            return Err(Refusal::new(RefusalKind::LimitReached, words));
        }
        let (told, record) = watch::channel(first_record(ask, &self.vault));
        let (sender, orders) = mpsc::unbounded_channel();
        table.insert(ask.name.clone(), Entry { record, orders: Some(sender), ask: None });
        Ok((Reserved { services: self.clone(), name: ask.name.clone(), before: Some(before) }, told, orders))
    }

    /// Writes down what is about to be made.
    fn prepare(
        &self,
        ask: &ServiceAsk,
        ports: Vec<service_record::PortPair>,
    ) -> io::Result<(ServiceRecord, ServiceLogWriter)> {
        let dir = self.dir.service_log(&ask.name);
        create_private_dir(&dir)?;
        let mut log = ServiceLogWriter::open(&dir)?;
        if log.position() > 0 {
            log.write(true, AGAIN)?;
        }
        let record = ServiceRecord { log_from: log.position(), ports, ..first_record(ask, &self.vault) };
        write_record(&self.dir, &record)?;
        if ask.restart_on_start {
            let again = ask.publish.iter().zip(&record.ports);
            let publish = again.map(|(port, pair)| PortAsk { host: port.host.map(|_| pair.host), ..*port }).collect();
            let ask = ServiceAsk { publish, ..ask.clone() };
            atomic::write(&self.dir.service_start(&ask.name), &serde_json::to_vec_pretty(&ask)?)?;
        } else {
            forget_start(&self.dir, &ask.name);
        }
        Ok((record, log))
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Every critical section only moves values.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The services of a workspace that does not run, by name: what its supervisor left running ended with it.
///
/// # Errors
/// They cannot be read.
pub fn at_rest(dir: &WorkspaceDir) -> io::Result<Vec<ServiceRecord>> {
    let mut found = Vec::new();
    for name in names(dir)? {
        // What a crash left without a record is no service.
        let Ok(mut record) = read_json::<ServiceRecord>(&dir.service(&name)) else { continue };
        if record.state.is_alive() {
            record.state = ServiceState::Stopped;
            record.reason = Some("its workspace was stopped".to_owned());
        }
        record.ports.clear();
        found.push(record);
    }
    Ok(found)
}

/// A name that is kept for a service. Dropping it gives it back.
struct Reserved {
    services: Services,
    name: String,
    /// What was known of the name before; none once it is kept.
    before: Option<Option<Entry>>,
}

impl Reserved {
    /// The name is the service's that was started so, or was to be.
    fn keep(mut self, ask: ServiceAsk) {
        self.before = None;
        if let Some(entry) = self.services.table().get_mut(&self.name) {
            entry.ask = Some(Arc::new(ask));
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        match self.before.take() {
            Some(Some(before)) => drop(self.services.table().insert(self.name.clone(), before)),
            Some(None) => drop(self.services.table().remove(&self.name)),
            None => {}
        }
    }
}

fn first_record(ask: &ServiceAsk, vault: &Vault) -> ServiceRecord {
    let words = Words::of(&ask.request, vault).unwrap_or_default();
    ServiceRecord {
        version: SERVICE_RECORD_VERSION,
        name: ask.name.clone(),
        argv: words.argv,
        cwd: words.cwd,
        state: ServiceState::Starting,
        end: None,
        reason: None,
        started_at_ms: now_ms(),
        ready_at_ms: None,
        ended_at_ms: None,
        log_from: 0,
        ready: ask.ready.as_ref().map(|ready| vault.cut(&in_words(&ready.by))),
        ports: Vec::new(),
        restart_on_start: ask.restart_on_start,
        by: ask.by.clone(),
    }
}

/// How readiness is seen, as its flag would be written.
fn in_words(by: &ReadyBy) -> String {
    use pyro_wire::ready::Probe;
    match by {
        ReadyBy::Probe(Probe::File(path)) => format!("file {}", String::from_utf8_lossy(path.as_bytes())),
        ReadyBy::Probe(Probe::Tcp { host, port }) => format!("tcp {host}:{port}"),
        ReadyBy::Probe(Probe::Http(url)) => format!("http {url}"),
        ReadyBy::Command(line) => format!("command {line}"),
    }
}

fn write_record(dir: &WorkspaceDir, record: &ServiceRecord) -> io::Result<()> {
    atomic::write(&dir.service(&record.name), &serde_json::to_vec_pretty(record)?)
}

/// A service that is not to come back with its workspace is not written down as one that is.
fn forget_start(dir: &WorkspaceDir, name: &str) {
    drop(std::fs::remove_file(dir.service_start(name)));
}
