//! One service at work: its output goes to its log, what happens to it goes into its life, and that to whoever wants to know.

use std::time::Duration;

use pyro_wire::Stream;
use pyro_wire::exec::Exit;
use tokio::sync::{mpsc, watch};

use super::life::{Happening, ServiceLife, Todo};
use super::{Services, write_record};
use crate::store::service_log::ServiceLogWriter;
use crate::store::service_record::{ServiceEnd, ServiceRecord, ServiceState};
use crate::supervisor::commands::now_ms;
use crate::supervisor::filters::Filters;
use crate::supervisor::guest_link::{ExecEvent, RunningExec};
use crate::supervisor::notes::log;
use crate::supervisor::pace::Pace;

/// How long a service has to end in its own way.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long after that the guest may take to say that it ended.
pub(super) const STOP_SLACK: Duration = Duration::from_secs(10);

/// That a service is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// Why, for its record.
    pub(super) reason: String,
    /// What of it stays.
    pub(super) kind: StopKind,
}

/// What comes to a service.
pub(super) type Orders = mpsc::UnboundedReceiver<Order>;

/// What of a service stays when it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum StopKind {
    /// Nothing: neither its ports nor that it is started again.
    ForGood,
    /// Everything: it is started again at once.
    Restart,
    /// That it is started again with its workspace.
    WithWorkspace,
}

/// A service at work.
pub(super) struct Course {
    pub(super) services: Services,
    pub(super) running: RunningExec,
    pub(super) life: ServiceLife,
    pub(super) record: ServiceRecord,
    pub(super) log: ServiceLogWriter,
    /// What stands between what it prints and its log.
    pub(super) filters: Filters,
    pub(super) orders: Orders,
    pub(super) told: watch::Sender<ServiceRecord>,
    pub(super) stop: Option<StopKind>,
    pub(super) complained: bool,
}

impl Course {
    /// Goes on until it has ended.
    pub(super) async fn run(mut self, ready: impl Future<Output = Result<(), String>>) {
        let mut ready = std::pin::pin!(ready);
        let mut is_probed = self.life.state() == ServiceState::Starting;
        let mut pace = Pace::new();
        // Only counts once it was asked to end.
        let mut patience = std::pin::pin!(tokio::time::sleep(Duration::MAX));
        while self.life.state().is_alive() {
            let happening = tokio::select! {
                event = self.running.next() => match event {
                    Some(ExecEvent::Output(stream, bytes)) => {
                        let count = bytes.len();
                        let bytes = self.filters.push(stream, bytes);
                        self.keep(stream, &bytes);
                        // Its end, when it came, is not to wait for what it printed before.
                        if !self.running.is_over() {
                            pace.keep(count).await;
                        }
                        continue;
                    }
                    Some(ExecEvent::Exited { exit, .. }) => self.ended(exit),
                    None => self.lost(),
                },
                seen = &mut ready, if is_probed => {
                    is_probed = false;
                    seen.map_or_else(|seen| Happening::NotReady(self.services.vault.cut(&seen)), |()| Happening::Ready)
                }
                Some(order) = self.orders.recv() => self.ordered(order),
                () = &mut patience => {
                    drop(self.running.handle().kill().await);
                    patience.as_mut().reset(tokio::time::Instant::now() + STOP_SLACK);
                    continue;
                }
            };
            match self.life.apply(happening) {
                Todo::Nothing => {}
                Todo::Tell => self.tell(),
                Todo::Terminate => {
                    // A session that is gone is told by what the service does next.
                    drop(self.running.handle().terminate(STOP_GRACE).await);
                    patience.as_mut().reset(tokio::time::Instant::now() + STOP_GRACE + STOP_SLACK);
                }
            }
        }
    }

    fn ordered(&mut self, order: Order) -> Happening {
        self.stop.get_or_insert(order.kind);
        Happening::StopAsked(order.reason)
    }

    fn lost(&mut self) -> Happening {
        // Whoever took the machine away may have said why just before.
        if let Ok(order) = self.orders.try_recv() {
            let asked = self.ordered(order);
            self.life.apply(asked);
        }
        self.stop.get_or_insert(StopKind::WithWorkspace);
        Happening::Lost("its machine was lost".to_owned())
    }

    fn ended(&mut self, exit: Exit) -> Happening {
        self.record.end = Some(match exit {
            Exit::Code(code) => ServiceEnd::Code(code),
            Exit::Signal(signal) => ServiceEnd::Signal(signal),
            Exit::TimedOut | Exit::Killed => ServiceEnd::Killed,
        });
        Happening::Ended
    }

    /// Keeps what it prints. A full disk costs its readers the rest, not the service.
    fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        if let Err(error) = self.log.write(stream == Stream::Stderr, bytes)
            && !std::mem::replace(&mut self.complained, true)
        {
            log(&self.services.dir, &format!("cannot keep output of service {}: {error}", self.record.name));
        }
    }

    fn tell(&mut self) {
        if !self.life.state().is_alive() {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let held_back = self.filters.finish(stream);
                self.keep(stream, &held_back);
            }
        }
        let record = &mut self.record;
        record.state = self.life.state();
        record.reason = self.life.reason().map(str::to_owned);
        if record.state.is_alive() {
            record.ready_at_ms = Some(now_ms());
        } else {
            record.ended_at_ms = Some(now_ms());
            let stays = self.stop.unwrap_or(StopKind::ForGood);
            // One that crashed keeps its ports: it may be started again any moment, and nobody else gets them meanwhile.
            if stays != StopKind::Restart && record.state != ServiceState::Exited {
                self.services.ports.remove_of(&record.name);
                record.ports.clear();
            }
            if stays == StopKind::ForGood {
                super::forget_start(&self.services.dir, &record.name);
            }
        }
        if let Err(error) = write_record(&self.services.dir, record) {
            log(&self.services.dir, &format!("cannot write down service {}: {error}", record.name));
        }
        self.told.send_replace(self.record.clone());
    }
}
