//! What happens to a workspace from outside: what its connections tell the loop that owns it, and the way there.

use tokio::sync::{mpsc, oneshot};

use super::guest_link::GuestLink;
use super::protocol::{Ended, LiveStatus, Refusal, RefusalKind, ServerMessage};
use crate::store::disk_record::SnapshotRecord;

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
    Reset {
        /// To the disk of this snapshot.
        snapshot: String,
        /// Who is to be told.
        done: oneshot::Sender<Result<Ended, Refusal>>,
    },
    /// A snapshot is to be taken. All that the guest had to write was written a moment ago.
    TakeSnapshot {
        /// Its name.
        name: String,
        /// Who is to be told.
        done: oneshot::Sender<Result<SnapshotRecord, Refusal>>,
    },
    /// A snapshot is to be forgotten.
    ForgetSnapshot {
        /// Its name.
        name: String,
        /// Who is to be told.
        done: Done,
    },
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
    /// The way to the loop that listens to the other end of `events`.
    pub(super) fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self { events }
    }

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
    /// One that is over when `events` is told so.
    pub(super) fn new(link: GuestLink, events: mpsc::UnboundedSender<Event>) -> Self {
        Self { link, events: Some(events) }
    }

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
