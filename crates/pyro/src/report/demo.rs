//! The public shape of a demonstration.

use std::time::Duration;

use serde::Serialize;

use super::Report;

/// One step.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// Its name.
    pub(crate) name: &'static str,
    /// Whether it was as it should be.
    pub(crate) ok: bool,
    /// What was seen.
    pub(crate) seen: String,
    /// What that proves.
    pub(crate) proves: &'static str,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct DemoReport {
    environment: &'static str,
    steps: Vec<Step>,
    duration_ms: u64,
}

impl DemoReport {
    /// Gathers the steps.
    pub(crate) fn new(environment: &'static str, steps: Vec<Step>, took: Duration) -> Self {
        Self { environment, steps, duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl Report for DemoReport {
    fn text(&self, _: bool) -> String {
        self.steps.iter().map(|step| format!("{}: {}\n", step.name, step.seen)).collect()
    }

    fn ok(&self) -> bool {
        self.steps.iter().all(|step| step.ok)
    }
}
