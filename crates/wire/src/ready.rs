//! Waiting for something in the guest to be ready to be used: the tool looks again and again until it is, or time is up.
//!
//! Its answer is one line: a [`Readied`]. When time is up it fails with [`crate::FaultKind::NotReady`] and what it saw last.

use serde::{Deserialize, Serialize};

use crate::exec::Word;

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitReady {
    /// What is looked at.
    pub probe: Probe,
    /// Between two looks.
    pub interval_ms: u64,
    /// In all.
    pub timeout_ms: u64,
}

/// What tells that something is ready. Hosts are IP addresses or `localhost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Something is at this absolute path.
    File(Word),
    /// A connection is accepted.
    Tcp {
        /// Where.
        host: String,
        /// The port.
        port: u16,
    },
    /// A GET of this URL (`http://HOST[:PORT][/PATH]`) is answered with a status of 200 to 399.
    Http(String),
}

/// It is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readied {
    /// How often it was looked.
    pub looks: u64,
}
