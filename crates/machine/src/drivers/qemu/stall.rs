//! A guest that stands still because the host could not carry out a write of its disk, and how it goes on.
//!
//! QEMU keeps the write and pauses the guest; the next `cont` tries it again. That is done by itself, when the host's disk
//! has room again, so that a guest never hears of a full host and nobody has to remember one that waits.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::qmp::{Qmp, Stalled};
use crate::console::clean;

/// How often it is looked whether there is room.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How much room there must be: less would be full again at once.
const ROOM_BYTES_MIN: u64 = 16 << 20;

/// A write that failed for another reason, a quota for example, is tried again after so many looks.
const LOOKS_BLIND: u32 = 10;

/// Lets the guest go on whenever it can, as long as QEMU lives. `file` is on the disk that may be full.
pub(super) async fn watch(qmp: Arc<Qmp>, file: OwnedFd) {
    while qmp.until(|happened| happened.stalled.is_some()).await.is_ok() {
        let mut looks = 0;
        while let Some(stalled) = qmp.happened().stalled {
            tokio::time::sleep(LOOK_INTERVAL).await;
            looks += 1;
            if (has_room(&file) && stalled.no_space) || looks % LOOKS_BLIND == 0 {
                // One that is gone ends the outer loop.
                drop(qmp.execute("cont", json!({})).await);
            }
            if qmp.happened().ended {
                return;
            }
        }
    }
}

/// Why the guest stands still, for people.
pub(super) fn words(stalled: &Stalled) -> String {
    if stalled.no_space {
        return "the host's disk is full".to_owned();
    }
    format!("the host cannot write its disk: {}", clean(stalled.reason.as_bytes()))
}

fn has_room(file: &OwnedFd) -> bool {
    rustix::fs::fstatvfs(file).is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) >= ROOM_BYTES_MIN)
}
