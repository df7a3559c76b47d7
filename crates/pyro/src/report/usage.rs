//! The public shapes of what pyro takes on the disk, and of what was pruned.

use std::fmt::Write as _;

use pyro_engine::environment::{CacheKind, CacheUsage, PrunedItem, PrunedKind};
use pyro_engine::workspace::leftovers::{Leftover, LeftoverKind};
use pyro_engine::workspace::usage::{Pruned, Usage, WorkspaceUsage};
use serde::Serialize;

use super::clean::one_line;
use super::env::{EnvRemoved, Moment, RemovedRow};
use super::workspace::phase_name;
use super::{Report, units};

/// What pyro takes on this host's disk.
#[derive(Debug, Serialize)]
pub(crate) struct UsageReport {
    /// What machines are made of, and what they are made with.
    cache: Vec<CacheRow>,
    workspaces: Vec<WorkspaceRow>,
    /// All of it; what is shared is counted once.
    total_bytes: u64,
    /// What `pyro prune` would free, and `pyro prune --all`; null while an environment is pulled.
    prunable_bytes: Option<u64>,
    prunable_all_bytes: Option<u64>,
}

/// What one kind of the cache takes.
#[derive(Debug, Serialize)]
struct CacheRow {
    kind: &'static str,
    count: u64,
    disk_bytes: u64,
}

/// What one workspace takes.
#[derive(Debug, Serialize)]
struct WorkspaceRow {
    id: String,
    name: Option<String>,
    state: &'static str,
    /// Its own.
    disk_bytes: u64,
    /// How many snapshots it has, its baseline not counted, and what of its own they keep.
    snapshot_count: usize,
    snapshot_bytes: u64,
    /// Shared with the cache, where it is counted.
    shared_bytes: u64,
    used_at: Moment,
}

impl From<Usage> for UsageReport {
    fn from(usage: Usage) -> Self {
        let cache: Vec<CacheRow> = usage.cache.into_iter().map(CacheRow::from).collect();
        let workspaces: Vec<WorkspaceRow> = usage.workspaces.into_iter().map(WorkspaceRow::from).collect();
        let sum = |items: Vec<Pruned>| items.iter().map(Pruned::disk_bytes).sum();
        Self {
            total_bytes: cache.iter().map(|row| row.disk_bytes).sum::<u64>()
                + workspaces.iter().map(|row| row.disk_bytes).sum::<u64>(),
            prunable_bytes: usage.prunable.map(sum),
            prunable_all_bytes: usage.prunable_all.map(sum),
            cache,
            workspaces,
        }
    }
}

impl From<CacheUsage> for CacheRow {
    fn from(usage: CacheUsage) -> Self {
        let kind = match usage.kind {
            CacheKind::Environments => "environments",
            CacheKind::Kernels => "kernels",
            CacheKind::Templates => "templates",
            CacheKind::BlankDisks => "blank disks",
            CacheKind::Downloads => "downloads",
            CacheKind::Lists => "package lists",
            CacheKind::Staging => "staging",
        };
        Self { kind, count: usage.count, disk_bytes: usage.disk_bytes }
    }
}

impl From<WorkspaceUsage> for WorkspaceRow {
    fn from(usage: WorkspaceUsage) -> Self {
        let (record, state) = (usage.workspace.record, usage.workspace.state);
        Self {
            id: record.id,
            name: record.name,
            state: phase_name(state.phase),
            disk_bytes: usage.own_bytes,
            snapshot_count: state.disk.snapshots.len(),
            snapshot_bytes: usage.snapshot_bytes,
            shared_bytes: usage.shared_bytes,
            used_at: Moment(state.used_at_seconds),
        }
    }
}

impl Report for UsageReport {
    fn text(&self, _: bool) -> String {
        let mut rows = vec![["WHAT", "COUNT", "SIZE"].map(str::to_owned)];
        let row = |what: &str, count: u64, bytes| [what.to_owned(), count.to_string(), units::size(bytes)];
        // Nobody is bothered with work in progress where there is none.
        let shown = self.cache.iter().filter(|one| one.kind != "staging" || one.count > 0);
        rows.extend(shown.map(|one| row(one.kind, one.count, one.disk_bytes)));
        let own = self.workspaces.iter().map(|one| one.disk_bytes).sum();
        rows.push(row("workspaces", self.workspaces.len() as u64, own));
        rows.push(["total".to_owned(), String::new(), units::size(self.total_bytes)]);
        let mut text = units::columns_and_numbers(&rows, 2);
        if !self.workspaces.is_empty() {
            text.push('\n');
            text.push_str(&self.workspace_table());
        }
        text.push('\n');
        match (self.prunable_bytes, self.prunable_all_bytes) {
            (Some(0), Some(0)) => text.push_str("'pyro prune' would free nothing\n"),
            (Some(some), Some(all)) => {
                let (some, all) = (units::size(some), units::size(all));
                let _ = writeln!(
                    text,
                    "'pyro prune' would free {some}; with --all, what is made or fetched again when needed, {all}"
                );
            }
            _ => {
                text.push_str("an environment is being pulled: what 'pyro prune' would free is not known until then\n")
            }
        }
        text
    }
}

impl UsageReport {
    fn workspace_table(&self) -> String {
        let mut rows = vec![["WORKSPACE", "STATE", "USED", "OWN", "SNAPSHOTS", "IN THEM", "SHARED"].map(str::to_owned)];
        rows.extend(self.workspaces.iter().map(|row| {
            [
                row.name.clone().unwrap_or_else(|| row.id.clone()),
                row.state.to_owned(),
                row.used_at.ago(),
                units::size(row.disk_bytes),
                row.snapshot_count.to_string(),
                units::size(row.snapshot_bytes),
                units::size(row.shared_bytes),
            ]
        }));
        units::columns_and_numbers(&rows, 4)
    }
}

/// What a prune removed, or would.
pub(crate) fn pruned(items: Vec<Pruned>, dry_run: bool) -> EnvRemoved {
    EnvRemoved {
        dry_run,
        freed_bytes: items.iter().map(Pruned::disk_bytes).sum(),
        removed: items.into_iter().map(pruned_row).collect(),
        note: None,
    }
}

fn pruned_row(item: Pruned) -> RemovedRow {
    match item {
        Pruned::Cached(item) => cached_row(item),
        Pruned::Leftover(Leftover { kind, path, disk_bytes }) => {
            RemovedRow { kind: leftover_word(kind), what: path.display().to_string(), disk_bytes }
        }
    }
}

/// Something of the cache that was removed.
pub(crate) fn cached_row(item: PrunedItem) -> RemovedRow {
    let kind = match item.kind {
        PrunedKind::Staging => "staging",
        PrunedKind::Kernel => "kernel",
        PrunedKind::Initramfs => "initramfs",
        PrunedKind::Download => "download",
        PrunedKind::Template => "template",
        PrunedKind::BlankDisk => "blank disk",
    };
    RemovedRow { kind, what: item.path.display().to_string(), disk_bytes: item.disk_bytes }
}

/// A kind of leftover, in a word or two.
pub(crate) fn leftover_word(kind: LeftoverKind) -> &'static str {
    match kind {
        LeftoverKind::HalfMade => "half-made workspace",
        LeftoverKind::HalfRemoved => "half-removed workspace",
        LeftoverKind::WithoutSupervisor => "workspace without a supervisor",
        LeftoverKind::PastItsTime => "workspace past its time",
        LeftoverKind::Layer => "layer of no disk",
        LeftoverKind::Socket => "socket of no supervisor",
        LeftoverKind::Staging => "staging",
    }
}

/// Leftovers in one line: how many of each kind.
pub(crate) fn leftovers_in_words(leftovers: &[Leftover]) -> String {
    let mut kinds: Vec<LeftoverKind> = leftovers.iter().map(|leftover| leftover.kind).collect();
    kinds.sort_unstable();
    let words = kinds.chunk_by(|a, b| a == b).map(|same| match same.len() {
        1 => leftover_word(same[0]).to_owned(),
        many => format!("{} ({many})", leftover_word(same[0])),
    });
    one_line(&words.collect::<Vec<_>>().join(", "))
}
