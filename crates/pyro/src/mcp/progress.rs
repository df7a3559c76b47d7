//! Signs of life while a call works: hosts that ask for them wait longer for those that give them.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use rmcp::model::ProgressNotificationParam;

use super::tool::Call;

/// How often a caller hears that its call still works.
const EVERY: Duration = Duration::from_secs(3);

/// Tells the caller every few seconds that `what`, if it wants to hear of it. Never comes back.
pub(super) async fn beat(call: &Call, what: &str) -> Infallible {
    let Some(token) = call.context.meta.get_progress_token() else { return std::future::pending().await };
    let began = Instant::now();
    loop {
        tokio::time::sleep(EVERY).await;
        let told = ProgressNotificationParam::new(token.clone(), began.elapsed().as_secs_f64())
            .with_message(format!("{what}: {} s", began.elapsed().as_secs()));
        // A caller that went away is told nothing more.
        drop(call.context.peer.notify_progress(told).await);
    }
}
