//! The tool for changes, over a real overlay, and the patch that the engine makes of what it says, judged by the host's git.
//!
//! Mounting an overlay needs root; without, these tests say so and pass.

#[expect(dead_code, reason = "the engine reads the answers here")]
mod ground;
#[expect(dead_code, reason = "git makes no patches here, it only takes them")]
mod trees;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use pyro_engine::store::crossing_record::Crossing;
use pyro_engine::workspace::diff::{
    self, ChangeExtent, ChangeStatus, DiffRequest, DiffSummary, LineCount, NoteKind, Secrecy,
};
use pyro_engine::workspace::looker::Looker;
use pyro_engine::workspace::tool::{ToolError, ToolHost, ToolInput, ToolOutput};
use pyro_wire::{FaultKind, Tool};
use rustix::mount::{MountFlags, UnmountFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ground::Ground;
use crate::trees::Repository;

const SKIPPED: &str = "skipped: an overlay cannot be mounted here";

/// A ground whose workspace is an overlay of its layers.
struct Workspace {
    ground: Ground,
}

impl Workspace {
    /// A workspace whose baseline is what `seed` writes; none without the right to mount.
    fn new(seed: impl FnOnce(&Path)) -> Option<Self> {
        let ground = Ground::new();
        seed(&ground.path("lower"));
        std::fs::create_dir(ground.path("work")).expect("a folder");
        let option = |name: &str, path: &str| format!("{name}={}", ground.path(path).display());
        let options = [option("lowerdir", "lower"), option("upperdir", "upper"), option("workdir", "work")].join(",");
        let options =
            std::ffi::CString::new(format!("{options},redirect_dir=on,metacopy=off,index=off")).expect("no zero");
        rustix::mount::mount("overlay", ground.workspace(""), "overlay", MountFlags::empty(), options.as_c_str())
            .ok()?;
        Some(Self { ground })
    }

    fn top(&self) -> std::path::PathBuf {
        self.ground.workspace("")
    }

    fn write(&self, path: &str, content: &str) {
        self.ground.put(path, content);
    }

    fn names(&self, request: &DiffRequest) -> DiffSummary {
        block_on(diff::names(self, request)).expect("compared")
    }

    fn patch(&self) -> (DiffSummary, Vec<u8>) {
        let mut patch = Vec::new();
        let summary = block_on(diff::patch(self, &DiffRequest::default(), Secrecy::Cut, &mut patch)).expect("compared");
        (summary, patch)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the test's own process.
        let _ = rustix::mount::unmount(self.ground.workspace(""), UnmountFlags::DETACH);
    }
}

impl ToolHost for Workspace {
    async fn call(&self, tool: Tool, input: Option<ToolInput<'_>>, output: ToolOutput<'_>) -> Result<(), ToolError> {
        let mut bytes = Vec::new();
        if let Some(input) = input {
            input.read_to_end(&mut bytes).await.map_err(|source| ToolError::Input { source })?;
        }
        let answer = self.ground.run(&tool, &bytes)?;
        output.write_all(&answer).await.map_err(|source| ToolError::Output { source })
    }

    async fn looker(&self) -> Result<Option<Looker>, ToolError> {
        Ok(None)
    }

    async fn cross(&self, _: Crossing) -> Result<(), ToolError> {
        Ok(())
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// What changed, as `git diff --name-status` would have it.
fn listed(summary: &DiffSummary) -> Vec<String> {
    let line = |file: &diff::FileChange| {
        let letter = match file.status {
            ChangeStatus::Added => "A",
            ChangeStatus::Deleted => "D",
            ChangeStatus::Modified => "M",
            ChangeStatus::Renamed => "R",
            ChangeStatus::Retyped => "T",
            ChangeStatus::Permissions => "m",
        };
        let from = file.change.renamed_from.as_deref().map(|from| format!("{} -> ", String::from_utf8_lossy(from)));
        format!("{letter} {}{}", from.unwrap_or_default(), String::from_utf8_lossy(&file.change.path))
    };
    summary.files.iter().map(line).collect()
}

#[track_caller]
fn check(workspace: &Workspace, request: &DiffRequest, expected: &[&str]) -> DiffSummary {
    let summary = workspace.names(request);
    assert_eq!(listed(&summary), expected);
    summary
}

fn put(top: &Path, path: &str, content: &str) {
    let path = top.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    std::fs::write(path, content).expect("written");
}

#[test]
fn any_change_becomes_a_patch_that_git_applies() {
    if Workspace::new(|_| ()).is_none() || Repository::new().is_none() {
        return eprintln!("{SKIPPED}, or there is no git");
    }
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let result = runner.run(&(trees::tree(), trees::steps()), |(seed, steps)| {
        let workspace = Workspace::new(|top| seed.iter().for_each(|step| step.apply(top))).expect("an overlay");
        let repository = Repository::new().expect("git");
        trees::write(&repository.top(), &trees::read(&workspace.ground.path("lower")));
        repository.commit();
        for step in &steps {
            step.apply(&workspace.top());
        }
        // git itself stumbles over these in its own patches.
        prop_assume!(!trees::has_loop(&repository.top()) && !trees::has_loop(&workspace.top()));
        let (summary, patch) = workspace.patch();
        let shown = String::from_utf8_lossy(&patch).into_owned();
        if patch.is_empty() {
            prop_assert!(summary.files.iter().all(|file| file.status == ChangeStatus::Permissions));
        } else {
            prop_assert!(repository.apply(&["--index"], &patch), "refused:\n{shown}");
        }
        prop_assert_eq!(trees::read(&workspace.top()), trees::read(&repository.top()), "{}", shown);
        // Back again, which proves the old side of each hunk. What comes back is a plain file to git, whatever it was.
        if !patch.is_empty() {
            prop_assert!(repository.apply(&["--reverse", "--index"], &patch), "not reversible:\n{shown}");
            let (old, back) = (trees::read(&workspace.ground.path("lower")), trees::read(&repository.top()));
            prop_assert_eq!(trees::contents(old), trees::contents(back), "{}", shown);
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn what_is_ignored_is_left_out_unless_the_seed_had_it() {
    let seed = |top: &Path| {
        put(top, ".gitignore", "*.log\nbuild/\n!keep.log\n");
        put(top, ".git/info/exclude", "local\n");
        put(top, "build/tracked.txt", "a\n");
        put(top, "seeded.log", "a\n");
        put(top, "sub/.gitignore", "*.txt\n!yes.txt\n");
    };
    let Some(workspace) = Workspace::new(seed) else { return eprintln!("{SKIPPED}") };
    workspace.write("new.log", "x");
    workspace.write("keep.log", "x");
    workspace.write("seeded.log", "b\n");
    workspace.write("build/tracked.txt", "b\n");
    workspace.write("build/new/deep.txt", "x");
    workspace.write("local", "x");
    workspace.write("sub/no.txt", "x");
    workspace.write("sub/yes.txt", "x");
    workspace.write("sub/deeper/no.txt", "x");
    workspace.write(".git/index", "x");
    workspace.write("nested/.git/HEAD", "x");
    workspace.write("nested/file", "x");
    let shown = ["M build/tracked.txt", "A keep.log", "A nested/file", "M seeded.log", "A sub/yes.txt"];
    let summary = check(&workspace, &DiffRequest::default(), &shown);
    assert_eq!(summary.notes.ignored, 5);
    let all = DiffRequest { all: true, ..DiffRequest::default() };
    assert_eq!(listed(&workspace.names(&all)).len(), shown.len() + 5);
    assert_eq!(workspace.names(&all).notes.ignored, 0);
}

#[test]
fn only_what_was_asked_for_is_compared() {
    let seed = |top: &Path| {
        put(top, "a/x", "1");
        put(top, "a/y", "1");
        put(top, "b/x", "1");
    };
    let Some(workspace) = Workspace::new(seed) else { return eprintln!("{SKIPPED}") };
    for path in ["a/x", "a/y", "b/x", "c"] {
        workspace.write(path, "22");
    }
    std::fs::remove_dir_all(workspace.ground.workspace("b")).expect("removed");
    let asked =
        |paths: &[&str]| DiffRequest { paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(), all: false };
    check(&workspace, &asked(&["a/x", "/workspace/c"]), &["M a/x", "A c"]);
    check(&workspace, &asked(&["b"]), &["D b/x"]);
    check(&workspace, &asked(&["/workspace"]), &["M a/x", "M a/y", "D b/x", "A c"]);
    for (path, kind) in [("nowhere", FaultKind::NotFound), ("/etc", FaultKind::InvalidArgument)] {
        let error = block_on(diff::names(&workspace, &asked(&[path]))).expect_err("refused");
        assert!(matches!(error, diff::DiffError::Tool(ToolError::Fault(fault)) if fault.kind == kind), "{path}");
    }
}

#[test]
fn a_directory_that_moved_is_renames_of_what_is_in_it() {
    let seed = |top: &Path| {
        for path in ["old/one", "old/deep/two", "old/three"] {
            put(top, path, path);
        }
    };
    let Some(workspace) = Workspace::new(seed) else { return eprintln!("{SKIPPED}") };
    std::fs::create_dir(workspace.ground.workspace("to")).expect("made");
    std::fs::rename(workspace.ground.workspace("old"), workspace.ground.workspace("to/new")).expect("moved");
    workspace.write("to/new/three", "3");
    check(
        &workspace,
        &DiffRequest::default(),
        &["D old/three", "R old/deep/two -> to/new/deep/two", "R old/one -> to/new/one", "A to/new/three"],
    );
    // And where the old name is taken again by something else.
    workspace.write("old/one", "another");
    check(
        &workspace,
        &DiffRequest::default(),
        &["M old/one", "D old/three", "R old/deep/two -> to/new/deep/two", "A to/new/one", "A to/new/three"],
    );
}

#[test]
fn what_git_cannot_express_is_noted() {
    let seed = |top: &Path| {
        put(top, "plain", "1");
        put(top, "full/x", "1");
        put(top, "touched", "1");
        std::fs::create_dir(top.join("empty")).expect("made");
    };
    let Some(workspace) = Workspace::new(seed) else { return eprintln!("{SKIPPED}") };
    let at = |path: &str| workspace.ground.workspace(path);
    std::fs::create_dir_all(at("new/inner")).expect("made");
    std::fs::remove_dir(at("empty")).expect("removed");
    std::fs::remove_file(at("full/x")).expect("removed");
    std::fs::set_permissions(at("plain"), PermissionsExt::from_mode(0o600)).expect("set");
    std::fs::set_permissions(at("full"), PermissionsExt::from_mode(0o700)).expect("set");
    std::fs::write(at("touched"), "1").expect("written");
    drop(std::os::unix::net::UnixListener::bind(at("socket")).expect("bound"));
    put(&at(""), "sub/.GIT", "x");
    let summary = check(&workspace, &DiffRequest::default(), &["m full", "D full/x", "m plain"]);
    let notes: Vec<_> = summary.notes.kinds.iter().map(|note| (note.kind, note.count)).collect();
    assert_eq!(notes, [(NoteKind::EmptyDirectory, 3), (NoteKind::Special, 1), (NoteKind::RefusedName, 1)]);
    let (_, patch) = workspace.patch();
    assert!(
        patch.starts_with(b"diff --git a/full/x b/full/x\ndeleted file mode"),
        "{}",
        String::from_utf8_lossy(&patch)
    );
}

#[test]
fn lines_are_counted_and_large_files_only_named() {
    let seed = |top: &Path| {
        put(top, "text", "1\n2\n3\n");
        symlink("text", top.join("link")).expect("a link");
    };
    let Some(workspace) = Workspace::new(seed) else { return eprintln!("{SKIPPED}") };
    workspace.write("text", "1\ntwo\n3\n4\n");
    workspace.write("zero", "a\0b");
    let large = std::fs::File::create(workspace.ground.workspace("large")).expect("made");
    large.set_len(diff::FILE_BYTES_MAX + 1).expect("a hole");
    std::fs::remove_file(workspace.ground.workspace("link")).expect("removed");
    workspace.write("link", "now a file");
    let (summary, _) = workspace.patch();
    let lines = |added, removed| Some(ChangeExtent::Lines(LineCount { added, removed }));
    let expected = [
        ("A large", Some(ChangeExtent::TooLarge)),
        ("T link", lines(1, 1)),
        ("M text", lines(2, 1)),
        ("A zero", Some(ChangeExtent::Binary)),
    ];
    let found: Vec<_> = listed(&summary).into_iter().zip(summary.files.iter().map(|file| file.extent)).collect();
    assert_eq!(found, expected.map(|(name, extent)| (name.to_owned(), extent)));
    let counted = block_on(diff::stat(&workspace, &DiffRequest::default())).expect("compared");
    assert_eq!(counted, DiffSummary { digest: None, ..summary }, "only a patch has a digest");
}

#[test]
fn a_baseline_that_nobody_touched_costs_and_shows_nothing() {
    let seed = |top: &Path| (0..50).for_each(|number| put(top, &format!("d{number}/x"), "1"));
    let Some(workspace) = Workspace::new(seed) else { return eprintln!("{SKIPPED}") };
    let (summary, patch) = workspace.patch();
    assert_eq!(DiffSummary { digest: None, ..summary }, DiffSummary::default());
    assert!(patch.is_empty());
}
