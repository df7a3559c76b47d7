//! What may be true of a workspace after each thing that was done to it, seen from outside.

use std::collections::BTreeMap;
use std::fmt;

/// The lines of the file that commands add to.
pub(crate) type Content = Vec<u32>;

/// Something that is done to a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Make one.
    Create { name: String },
    /// Add a line to its file, and see to it that it is on the disk.
    Exec { id: String, line: u32 },
    /// Make a snapshot.
    Snapshot { id: String, name: String },
    /// Delete a snapshot.
    Forget { id: String, name: String },
    /// Go back to a snapshot.
    Reset { id: String, to: String },
    /// Stop it.
    Stop { id: String },
    /// Start it.
    Start { id: String },
    /// Delete it.
    Delete { id: String },
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The supervisor of the workspace.
    Supervisor,
    /// Its hypervisor.
    Machine,
    /// Whoever asked for the operation.
    Caller,
}

/// What is known of a workspace.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Its id.
    pub(crate) id: String,
    /// What its file may hold: more than one thing after an operation that was not acknowledged.
    contents: Vec<Content>,
    /// The snapshots that are there, and what the file may hold in each: more than one thing if it was not acknowledged.
    pub(crate) snapshots: BTreeMap<String, Vec<Content>>,
    /// Snapshots that may come yet, since a supervisor goes on with what a killed caller asked for, and what they may hold.
    coming: BTreeMap<String, Vec<Content>>,
    /// Snapshots that may go yet, for the same reason.
    going: Vec<String>,
    /// Whether its deletion was begun.
    pub(crate) may_be_gone: bool,
    /// Whether it was found to be gone.
    pub(crate) vanished: bool,
}

impl Operation {
    /// Its kind, in a word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Exec { .. } => "exec",
            Self::Snapshot { .. } => "snapshot",
            Self::Forget { .. } => "forget",
            Self::Reset { .. } => "reset",
            Self::Stop { .. } => "stop",
            Self::Start { .. } => "start",
            Self::Delete { .. } => "delete",
        }
    }

    /// The workspace it is about; none for one that is to be made.
    pub(crate) fn id(&self) -> Option<&str> {
        match self {
            Self::Create { .. } => None,
            Self::Exec { id, .. }
            | Self::Snapshot { id, .. }
            | Self::Forget { id, .. }
            | Self::Reset { id, .. }
            | Self::Stop { id }
            | Self::Start { id }
            | Self::Delete { id } => Some(id),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name } => write!(out, "create {name}"),
            Self::Exec { id, line } => write!(out, "exec in {id}, line {line}"),
            Self::Snapshot { id, name } => write!(out, "snapshot {name} of {id}"),
            Self::Forget { id, name } => write!(out, "delete snapshot {name} of {id}"),
            Self::Reset { id, to } => write!(out, "reset {id} to {to}"),
            Self::Stop { id } | Self::Start { id } | Self::Delete { id } => write!(out, "{} {id}", self.name()),
        }
    }
}

impl Known {
    /// One that was just made.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            contents: vec![Vec::new()],
            snapshots: BTreeMap::new(),
            coming: BTreeMap::new(),
            going: Vec::new(),
            may_be_gone: false,
            vanished: false,
        }
    }

    /// One that was found, though its maker was killed.
    pub(crate) fn not_acknowledged(id: &str) -> Self {
        Self { may_be_gone: true, ..Self::new(id) }
    }

    /// Something was done to it. Until [`Self::compare`] found out, what was not acknowledged may be or not.
    pub(crate) fn note(&mut self, operation: &Operation, acknowledged: bool) {
        let now = self.contents.last().expect("it holds something").clone();
        let becomes = match operation {
            Operation::Exec { line, .. } => vec![[now, vec![*line]].concat()],
            Operation::Reset { to, .. } if to == "baseline" => vec![Vec::new()],
            Operation::Reset { to, .. } => self.snapshots[to].clone(),
            Operation::Snapshot { name, .. } => {
                let of = if acknowledged { &mut self.snapshots } else { &mut self.coming };
                of.insert(name.clone(), vec![now.clone()]);
                vec![now]
            }
            Operation::Forget { name, .. } => {
                self.snapshots.remove(name).expect("only a known one is deleted");
                if !acknowledged {
                    self.going.push(name.clone());
                }
                vec![now]
            }
            Operation::Delete { .. } => {
                self.may_be_gone = true;
                vec![now]
            }
            Operation::Create { .. } | Operation::Stop { .. } | Operation::Start { .. } => vec![now],
        };
        if acknowledged {
            self.contents.clear();
        }
        self.contents.extend(becomes);
    }

    /// What was found in it must be one of what may be, and is what is known from now on.
    pub(crate) fn compare(&mut self, log: &str, names: &[String]) {
        let found = content(log);
        assert!(self.contents.contains(&found), "{} holds {found:?}, and not one of {:?}", self.id, self.contents);
        for contents in self.coming.values_mut() {
            contents.push(found.clone());
        }
        self.contents = vec![found];
        self.may_be_gone = false;
        for name in self.snapshots.keys() {
            assert!(names.contains(name), "{} lost snapshot {name}; it has {names:?}", self.id);
        }
        self.snapshots.extend(self.coming.extract_if(.., |name, _| names.contains(name)));
        self.going.retain(|name| names.contains(name));
        let is_known =
            |name: &String| name == "baseline" || self.snapshots.contains_key(name) || self.going.contains(name);
        let stranger = names.iter().find(|name| !is_known(name));
        assert_eq!(stranger, None, "{} has a snapshot that nobody made", self.id);
    }
}

/// The numbers in the lines of a file.
pub(crate) fn content(log: &str) -> Content {
    log.lines().map(|line| line.parse().expect("every line is a number")).collect()
}

/// Repeatable chance.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The chance of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// From 0 to below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("it is small");
        usize::try_from(self.next() % limit).expect("it is small")
    }

    /// From 0 to 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).expect("32 bits")) / f64::from(u32::MAX)
    }

    /// One of them.
    pub(crate) fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}
