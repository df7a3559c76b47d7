//! Snapshots of a disk that is in use: the guest holds still for a moment, and an empty layer comes on top.
//!
//! Whatever dies at any moment, the state names a disk that opens: the layer is made and named before it is used, and as
//! long as it is empty the disk holds the same with it as without it. The snapshot gets its name last.

use std::time::{Duration, Instant};

use pyro_wire::message::Request;

use super::driver::{Keeper, MachineSource};
use super::guest_link::LinkError;
use super::layers;
use super::notes::{host, log, now_seconds, write_state};
use super::plan::WORKSPACE_SERIAL;
use super::protocol::{Refusal, RefusalKind};
use super::state::Wish;
use crate::machine::LayerError;
use crate::store::disk_record::{SnapshotError, SnapshotRecord};
use crate::store::workspace_record::StateRecord;

/// How long a guest may take to write what it has not written yet, and to hold still. It was asked to write all of it before.
const FREEZE_LIMIT: Duration = Duration::from_secs(15);

/// How long it may take to go on.
const THAW_LIMIT: Duration = Duration::from_secs(10);

/// What became of the disk.
enum Switch {
    /// The new layer is in use.
    Done { pause: Duration, thawed: Result<(), Refusal> },
    /// The disk is as it was.
    NotDone(Refusal),
    /// One or the other.
    Unknown(Refusal),
}

impl<S: MachineSource> Keeper<'_, S> {
    /// Takes a snapshot of the disk as it is now.
    pub(super) async fn take_snapshot(&mut self, name: String) -> Result<SnapshotRecord, Refusal> {
        self.life.admit(Wish::Use).map_err(|denied| Refusal::new(RefusalKind::Phase, denied.to_string()))?;
        self.check_not_stalled()?;
        self.state.disk.check_room_for(&name).map_err(snapshot_refusal)?;
        let below = self.state.disk.live;
        let number = self.make_layer()?;
        self.state.disk.grow(number);
        if let Err(error) = write_state(&self.dir, &self.state) {
            self.give_layer_up();
            return Err(host("write the state", &error));
        }
        let (pause, thawed) = match self.switch(number).await {
            Switch::Done { pause, thawed } => (pause, thawed),
            Switch::NotDone(refusal) => {
                self.give_layer_up();
                return Err(refusal);
            }
            // Whether it is in use or not, the disk with it on top is the right one.
            Switch::Unknown(refusal) => return Err(refusal),
        };
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let snapshot =
            SnapshotRecord { name, layer: below, created_at_seconds: now_seconds(), pause_ms: Some(pause_ms) };
        let before = self.state.clone();
        self.state.disk.keep(snapshot.clone());
        if let Err(error) = write_state(&self.dir, &self.state) {
            self.take_back(before);
            return Err(host("write the state", &error));
        }
        thawed.map(|()| snapshot)
    }

    /// Takes the name of a snapshot away, and what nothing else stands on.
    pub(super) fn forget_snapshot(&mut self, name: &str) -> Result<(), Refusal> {
        self.life.admit(Wish::Use).map_err(|denied| Refusal::new(RefusalKind::Phase, denied.to_string()))?;
        let before = self.state.clone();
        self.state.disk.forget(name).map_err(snapshot_refusal)?;
        if let Err(error) = write_state(&self.dir, &self.state) {
            self.take_back(before);
            return Err(host("write the state", &error));
        }
        self.remove_other_layers();
        Ok(())
    }

    /// Goes back to a state after one that could not be written, or not for certain: it may be on the disk all the same, and is
    /// written over as soon as that works.
    pub(super) fn take_back(&mut self, before: StateRecord) {
        self.state = before;
        self.dirty = true;
    }

    /// Makes an empty layer, whose number is written down before.
    pub(super) fn make_layer(&mut self) -> Result<u64, Refusal> {
        let number = self.state.disk.reserve();
        write_state(&self.dir, &self.state).map_err(|error| host("write the state", &error))?;
        match layers::create(&self.dir, number) {
            Ok(()) => Ok(number),
            Err(error) => {
                self.remove_other_layers();
                Err(host("make a layer of the disk", &error))
            }
        }
    }

    /// Removes layers that the state does not name. What cannot be removed now is removed by the next supervisor.
    pub(super) fn remove_other_layers(&self) {
        if let Err(error) = layers::remove_others(&self.dir, &self.state.disk) {
            log(&self.dir, &format!("cannot remove a layer of the disk: {error}"));
        }
    }

    /// Refuses what a guest that stands still could not do.
    pub(super) fn check_not_stalled(&self) -> Result<(), Refusal> {
        match self.machine.machine.stalled() {
            Some(reason) => Err(Refusal::new(RefusalKind::Stalled, format!("the workspace is paused: {reason}"))),
            None => Ok(()),
        }
    }

    /// Goes back to the disk without the layer that was not used. Its file goes only when the state no longer names it.
    fn give_layer_up(&mut self) {
        self.state.disk.shrink();
        match write_state(&self.dir, &self.state) {
            Ok(()) => self.remove_other_layers(),
            Err(error) => {
                log(&self.dir, &format!("cannot write the state: {error}"));
                self.dirty = true;
            }
        }
    }

    /// Has the guest hold still, puts the layer on top, and lets it go on.
    async fn switch(&mut self, number: u64) -> Switch {
        let layer = match layers::open_top(&self.dir, number) {
            Ok(layer) => layer,
            Err(error) => return Switch::NotDone(host("open a layer of the disk", &error)),
        };
        let began = Instant::now();
        if let Err(refusal) = self.ask_guest(Request::Freeze, FREEZE_LIMIT).await {
            // One that froze too late thaws at once.
            drop(self.ask_guest(Request::Thaw, THAW_LIMIT).await);
            return Switch::NotDone(refusal);
        }
        let added = self.machine.machine.add_layer(WORKSPACE_SERIAL, layer).await;
        let thawed = self.ask_guest(Request::Thaw, THAW_LIMIT).await;
        let in_words = |error: &LayerError| Refusal::new(RefusalKind::Host, error.to_string());
        match added {
            Ok(()) => Switch::Done { pause: began.elapsed(), thawed },
            Err(error @ LayerError::Refused { .. }) => Switch::NotDone(in_words(&error)),
            Err(error @ LayerError::Unknown { .. }) => Switch::Unknown(in_words(&error)),
        }
    }

    async fn ask_guest(&self, request: Request, limit: Duration) -> Result<(), Refusal> {
        let what =
            if request == Request::Freeze { "hold its disk still" } else { "go on after its disk was held still" };
        match tokio::time::timeout(limit, self.machine.link.request(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(LinkError::Fault(fault))) => {
                Err(Refusal::new(RefusalKind::Fault(fault.kind), format!("the guest did not {what}: {fault}")))
            }
            Ok(Err(error)) => Err(super::server::refusal(error)),
            Err(_) => {
                let words = format!("the guest did not {what} within {} s", limit.as_secs());
                Err(Refusal::new(RefusalKind::Unresponsive, words))
            }
        }
    }
}

/// A mistake about snapshots, as a client is told.
pub(super) fn snapshot_refusal(error: SnapshotError) -> Refusal {
    Refusal::new(RefusalKind::Snapshot, error.to_string())
}
