//! The disk of a workspace as it is written down: a tree of layers, and the names of some of them.
//!
//! ```text
//! 0 (bottom) -- 1 -- 2 -- 4   the live one, the only one that is written to
//!                \    ^
//!                 \   '-- snapshot "tests-pass"
//!                  3      (given up by a reset, and removed)
//! ```
//!
//! A layer holds what was written above the one below it, and never changes once there is another one above. A snapshot is
//! a name for a layer: what the disk held is what is seen through that layer and all below it. A layer is kept as long as
//! the live one or a snapshot stands on it. No I/O: who changes the record writes it down and makes or removes the files.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The number of the bottom: the formatted disk, with the seed on it.
pub const BOTTOM: u64 = 0;

/// The snapshot that is always there: the bottom.
pub const BASELINE: &str = "baseline";

/// Most layers that may be above each other. Each costs a reader one more look, and the hypervisor two open files.
pub const LAYERS_MAX: usize = 64;

/// Most snapshots of a workspace, the baseline not counted.
pub const SNAPSHOTS_MAX: usize = 64;

/// The disk of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRecord {
    /// The layers above the bottom, in the order they were made.
    pub layers: Vec<LayerRecord>,
    /// The one that is written to.
    pub live: u64,
    /// The number of the next one.
    pub next: u64,
    /// The names, in the order they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<SnapshotRecord>,
}

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Its number, which no other layer of the workspace ever has.
    pub number: u64,
    /// The one below it, which is older.
    pub below: u64,
}

/// A layer with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// What its user calls it.
    pub name: String,
    /// The layer.
    pub layer: u64,
    /// When it was taken, seconds since 1970.
    pub created_at_seconds: u64,
    /// How long the guest could not write meanwhile, in milliseconds; none if no guest ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
}

/// Why a snapshot is not taken, found or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The name is in use.
    #[error("there is a snapshot '{name}' already")]
    Taken {
        /// The name.
        name: String,
    },
    /// There is none of this name.
    #[error("there is no snapshot '{name}'")]
    NotFound {
        /// What was asked for.
        name: String,
        /// What they are called.
        known: Vec<String>,
    },
    /// The baseline cannot be removed.
    #[error("the snapshot '{BASELINE}' cannot be deleted: it is what the workspace was created with")]
    Baseline,
    /// There are too many snapshots.
    #[error("the workspace has {SNAPSHOTS_MAX} snapshots, the most there can be")]
    TooMany,
    /// Too many layers would be above each other.
    #[error("the disk has {LAYERS_MAX} layers above each other, the most there can be")]
    TooDeep,
}

impl DiskRecord {
    /// A disk that nothing was written to: the bottom, and the layer 1 above it.
    #[must_use]
    pub fn new() -> Self {
        Self { layers: vec![LayerRecord { number: 1, below: BOTTOM }], live: 1, next: 2, snapshots: Vec::new() }
    }

    /// The layers that are seen through this one: the bottom first, itself last.
    #[must_use]
    pub fn chain(&self, layer: u64) -> Vec<u64> {
        let mut chain = vec![layer];
        let mut at = layer;
        // What is below is older, also in a record that somebody wrote by hand: this ends.
        while let Some(below) = self.below(at).filter(|below| *below < at) {
            chain.push(below);
            at = below;
        }
        chain.reverse();
        chain
    }

    /// The layers of the disk as it is now.
    #[must_use]
    pub fn live_chain(&self) -> Vec<u64> {
        self.chain(self.live)
    }

    /// The layer of a snapshot.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn find(&self, name: &str) -> Result<u64, SnapshotError> {
        if name == BASELINE {
            return Ok(BOTTOM);
        }
        match self.snapshots.iter().find(|snapshot| snapshot.name == name) {
            Some(snapshot) => Ok(snapshot.layer),
            None => {
                let own = self.snapshots.iter().map(|snapshot| snapshot.name.clone());
                let known = std::iter::once(BASELINE.to_owned()).chain(own).collect();
                Err(SnapshotError::NotFound { name: name.to_owned(), known })
            }
        }
    }

    /// Whether a snapshot of this name can be taken.
    ///
    /// # Errors
    /// Why not.
    pub fn check_room_for(&self, name: &str) -> Result<(), SnapshotError> {
        if self.find(name).is_ok() {
            return Err(SnapshotError::Taken { name: name.to_owned() });
        }
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return Err(SnapshotError::TooMany);
        }
        // The bottom is no layer of ours.
        if self.live_chain().len() > LAYERS_MAX { Err(SnapshotError::TooDeep) } else { Ok(()) }
    }

    /// The number of a layer that is about to be made. No other one ever has it.
    pub fn reserve(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The layer `number` is above the live one, and takes its place. It is empty: the disk holds what it held.
    pub fn grow(&mut self, number: u64) {
        self.layers.push(LayerRecord { number, below: self.live });
        self.live = number;
    }

    /// Takes back [`Self::grow`], as long as nothing was written to that layer and nothing stands on it.
    pub fn shrink(&mut self) {
        self.live = self.below(self.live).unwrap_or(BOTTOM);
        self.prune();
    }

    /// The disk is what it was at the layer `target`, with the empty layer `number` above.
    pub fn branch(&mut self, number: u64, target: u64) {
        self.layers.push(LayerRecord { number, below: target });
        self.live = number;
        self.prune();
    }

    /// Gives a name.
    pub fn keep(&mut self, snapshot: SnapshotRecord) {
        self.snapshots.push(snapshot);
    }

    /// Takes a name away.
    ///
    /// # Errors
    /// There is none, or it is the baseline's.
    pub fn forget(&mut self, name: &str) -> Result<(), SnapshotError> {
        if name == BASELINE {
            return Err(SnapshotError::Baseline);
        }
        self.find(name)?;
        self.snapshots.retain(|snapshot| snapshot.name != name);
        self.prune();
        Ok(())
    }

    fn below(&self, layer: u64) -> Option<u64> {
        self.layers.iter().find(|one| one.number == layer).map(|one| one.below)
    }

    /// Leaves out the layers that nothing stands on any more.
    fn prune(&mut self) {
        let tops = self.snapshots.iter().map(|snapshot| snapshot.layer).chain([self.live]);
        let needed: BTreeSet<u64> = tops.flat_map(|top| self.chain(top)).collect();
        self.layers.retain(|layer| needed.contains(&layer.number));
    }
}

impl Default for DiskRecord {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::{BASELINE, BOTTOM, DiskRecord, LAYERS_MAX, SNAPSHOTS_MAX, SnapshotError, SnapshotRecord};

    fn named(name: &str, layer: u64) -> SnapshotRecord {
        SnapshotRecord { name: name.to_owned(), layer, created_at_seconds: 0, pause_ms: None }
    }

    /// A disk whose layers hold numbers instead of bytes, and what its snapshots are to hold.
    #[derive(Debug, Default)]
    struct Model {
        disk: DiskRecord,
        written: BTreeMap<u64, Vec<u32>>,
        expected: BTreeMap<String, Vec<u32>>,
        live: Vec<u32>,
        clock: u32,
    }

    impl Model {
        fn seen(&self, layer: u64) -> Vec<u32> {
            self.disk.chain(layer).iter().filter_map(|layer| self.written.get(layer)).flatten().copied().collect()
        }

        fn write(&mut self) {
            self.clock += 1;
            self.written.entry(self.disk.live).or_default().push(self.clock);
            self.live.push(self.clock);
        }

        fn snapshot(&mut self, name: &str, refused: bool) {
            if self.disk.check_room_for(name).is_err() {
                return;
            }
            let (number, below) = (self.disk.reserve(), self.disk.live);
            self.disk.grow(number);
            if refused {
                self.disk.shrink();
            } else {
                self.disk.keep(named(name, below));
                self.expected.insert(name.to_owned(), self.live.clone());
            }
        }

        fn reset(&mut self, name: &str) {
            let Ok(target) = self.disk.find(name) else { return };
            let number = self.disk.reserve();
            self.disk.branch(number, target);
            self.live = self.expected.get(name).cloned().unwrap_or_default();
        }

        fn forget(&mut self, name: &str) {
            assert_eq!(self.disk.forget(name).is_ok(), self.expected.remove(name).is_some());
        }

        fn check(&self) {
            assert_eq!(self.seen(self.disk.live), self.live);
            assert_eq!(self.seen(BOTTOM), Vec::<u32>::new());
            let mut needed: BTreeSet<u64> = self.disk.live_chain().into_iter().collect();
            for (name, expected) in &self.expected {
                let layer = self.disk.find(name).unwrap();
                assert_eq!(&self.seen(layer), expected, "{name}");
                assert_ne!(layer, self.disk.live, "a snapshot is never written to");
                needed.extend(self.disk.chain(layer));
            }
            needed.remove(&BOTTOM);
            let kept: BTreeSet<u64> = self.disk.layers.iter().map(|layer| layer.number).collect();
            assert_eq!(kept, needed, "what nothing stands on is gone, what something stands on is there");
            assert!(self.disk.live_chain().len() <= LAYERS_MAX + 1);
            assert!(kept.iter().all(|number| *number < self.disk.next));
        }
    }

    proptest! {
        /// Whatever is taken, removed and gone back to in whatever order: every snapshot holds what the disk held, and no
        /// layer is kept that nobody needs.
        #[test]
        fn every_snapshot_holds_what_the_disk_held(steps in prop::collection::vec((0_u8..8, 0_usize..6), 0..120)) {
            let names = ["a", "b", "c", "d", "e", BASELINE];
            let mut model = Model::default();
            for (step, name) in steps {
                let name = names[name];
                match step {
                    0..=2 => model.write(),
                    3..=4 => model.snapshot(name, false),
                    5 => model.snapshot(name, true),
                    6 => model.reset(name),
                    _ => model.forget(name),
                }
                model.check();
            }
        }
    }

    #[test]
    fn a_chain_has_an_end_and_a_reset_makes_room() {
        let mut model = Model::default();
        for number in 1..LAYERS_MAX {
            model.write();
            model.snapshot(&format!("s{number}"), false);
        }
        assert_eq!(model.disk.snapshots.len(), LAYERS_MAX - 1);
        assert_eq!(model.disk.check_room_for("one-more"), Err(SnapshotError::TooDeep));
        // Names alone are not what it is made of.
        for number in 10..LAYERS_MAX {
            model.forget(&format!("s{number}"));
        }
        assert_eq!(model.disk.check_room_for("one-more"), Err(SnapshotError::TooDeep));
        model.reset("s9");
        model.check();
        model.snapshot("one-more", false);
        model.check();
        assert_eq!(model.disk.live_chain().len(), 12);
    }

    #[test]
    fn names_are_told_when_one_is_wrong() {
        let mut model = Model::default();
        model.snapshot("one", false);
        let known = vec![BASELINE.to_owned(), "one".to_owned()];
        assert_eq!(model.disk.find("two"), Err(SnapshotError::NotFound { name: "two".to_owned(), known }));
        assert_eq!(model.disk.forget(BASELINE), Err(SnapshotError::Baseline));
        for taken in ["one", BASELINE] {
            let taken = SnapshotError::Taken { name: taken.to_owned() };
            let SnapshotError::Taken { name } = &taken else { unreachable!() };
            assert_eq!(model.disk.check_room_for(name), Err(taken));
        }
        while model.disk.snapshots.len() < SNAPSHOTS_MAX {
            let name = format!("s{}", model.disk.next);
            model.snapshot(&name, false);
            model.reset(BASELINE);
        }
        assert_eq!(model.disk.check_room_for("two"), Err(SnapshotError::TooMany));
    }

    #[test]
    fn a_record_that_somebody_wrote_by_hand_has_chains_that_end() {
        let text =
            r#"{"layers":[{"number":1,"below":2},{"number":2,"below":1},{"number":3,"below":3}],"live":2,"next":4}"#;
        let disk: DiskRecord = serde_json::from_str(text).unwrap();
        for layer in 0..4 {
            assert!(disk.chain(layer).len() <= 3);
        }
    }
}
