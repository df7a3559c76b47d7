//! How long work tells what it is doing: stages, counts, notes. Faces draw it; what works only reports.

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A stage began; the one before it, if any, is over.
    Stage {
        /// A short name for people, such as `download packages`.
        name: &'static str,
        /// What is counted in it.
        unit: Unit,
        /// How much there is to do, where it is known.
        total: Option<u64>,
    },
    /// So much of the current stage is done (a total, not a step).
    Done(u64),
    /// The item being worked on now, such as a package's name.
    Item(String),
    /// All stages are over: what follows speaks for itself, such as a command that begins now.
    Over,
    /// A line the user should see, such as which accelerator is used.
    Note(String),
}

/// What a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nothing: the stage only takes time.
    None,
    /// Bytes.
    Bytes,
    /// Packages.
    Packages,
}

/// Receives reports; called from any thread, must not block for long.
pub type Reporter<'a> = &'a (dyn Fn(Progress) + Send + Sync);
