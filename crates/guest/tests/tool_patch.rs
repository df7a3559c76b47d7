//! The tool for patches, against the host's git: what git applies is applied to the same end, and nothing is half done.

#[expect(dead_code, reason = "a patch needs no arguments")]
mod ground;
#[expect(dead_code, reason = "no patches are checked backwards here")]
mod trees;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use pyro_wire::patch::{ApplyPatch, HunkPlace, PatchAction, PatchLine, PatchedFile, Rejection};
use pyro_wire::{Fault, FaultKind, Tool};

use crate::ground::{Ground, parse_lines};
use crate::trees::{Repository, Step};

const SKIPPED: &str = "skipped: there is no git here";

/// What became of a patch.
#[derive(Debug)]
enum Outcome {
    Applied(Vec<PatchedFile>),
    Rejected(Vec<Rejection>),
}

fn send(ground: &Ground, patch: &[u8], dry_run: bool) -> Result<Outcome, Fault> {
    let tool = Tool::ApplyPatch(ApplyPatch { patch_bytes: patch.len() as u64, dry_run });
    let (mut files, mut rejected) = (Vec::new(), Vec::new());
    let mut lines = parse_lines::<PatchLine>(&ground.run(&tool, patch)?);
    let Some(PatchLine::End { rejections }) = lines.pop() else { panic!("an answer has an end") };
    for line in lines {
        match line {
            PatchLine::File(file) => files.push(file),
            PatchLine::Rejection(rejection) => rejected.push(rejection),
            PatchLine::End { .. } => panic!("an answer has one end"),
        }
    }
    assert_eq!(rejections, rejected.len() as u64);
    Ok(if rejections == 0 { Outcome::Applied(files) } else { Outcome::Rejected(rejected) })
}

#[track_caller]
fn applied(ground: &Ground, patch: &str) -> Vec<PatchedFile> {
    match send(ground, patch.as_bytes(), false) {
        Ok(Outcome::Applied(files)) => files,
        other => panic!("not applied: {other:?}"),
    }
}

#[track_caller]
fn rejected(ground: &Ground, patch: &str) -> Vec<Rejection> {
    let before = trees::read(&ground.workspace(""));
    match send(ground, patch.as_bytes(), false) {
        Ok(Outcome::Rejected(rejections)) => {
            assert_eq!(trees::read(&ground.workspace("")), before, "nothing is half done");
            rejections
        }
        other => panic!("not rejected: {other:?}"),
    }
}

#[track_caller]
fn check_reason(ground: &Ground, patch: &str, path: &str, reason: &str) {
    let [rejection] = &rejected(ground, patch)[..] else { panic!("one rejection") };
    assert_eq!((rejection.path.as_bytes(), rejection.reason.as_str()), (path.as_bytes(), reason));
}

fn read(ground: &Ground, path: &str) -> String {
    std::fs::read_to_string(ground.workspace(path)).expect("there")
}

fn run_cases<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), String> {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner.run(strategy, test).map_err(|error| error.to_string())
}

/// A patch by git from one tree to another, if there is one without binary content.
fn git_patch(seed: &[Step], steps: &[Step], options: &[&str]) -> Option<(Vec<u8>, trees::Tree, trees::Tree)> {
    let repository = Repository::new().expect("git");
    seed.iter().for_each(|step| step.apply(&repository.top()));
    repository.commit();
    let old = trees::read(&repository.top());
    steps.iter().for_each(|step| step.apply(&repository.top()));
    if trees::has_loop(&repository.top()) {
        return None;
    }
    let new = trees::read(&repository.top());
    repository.output(&["add", "--all", "--force", "."]);
    let patch = repository.output(&[&["diff", "--cached", "--no-color", "--no-ext-diff"], options].concat());
    let is_text = !patch.windows(14).any(|window| window == b"\nBinary files ");
    (is_text && !patch.is_empty()).then_some((patch, old, new))
}

fn options() -> impl Strategy<Value = Vec<&'static str>> {
    let choices: [&[&str]; 6] =
        [&[], &["-M"], &["-M20%"], &["-C", "-C", "--find-copies-harder"], &["-U1"], &["--full-index", "--no-renames"]];
    prop::sample::select(choices.map(<[&str]>::to_vec).to_vec())
}

#[test]
fn what_git_prints_is_applied_to_the_same_end() {
    if Repository::new().is_none() {
        return eprintln!("{SKIPPED}");
    }
    let strategy = (trees::tree(), trees::steps(), options());
    let result = run_cases(CASES, &strategy, |(seed, steps, options)| {
        let Some((patch, old, new)) = git_patch(&seed, &steps, &options) else { return Ok(()) };
        let ground = Ground::new();
        trees::write(&ground.workspace(""), &old);
        let shown = String::from_utf8_lossy(&patch).into_owned();
        let dry = send(&ground, &patch, true);
        prop_assert!(matches!(dry, Ok(Outcome::Applied(_))), "{dry:?}\n{shown}");
        prop_assert_eq!(trees::read(&ground.workspace("")), old, "a dry run changes nothing");
        let result = send(&ground, &patch, false);
        prop_assert!(matches!(result, Ok(Outcome::Applied(_))), "{result:?}\n{shown}");
        prop_assert_eq!(trees::read(&ground.workspace("")), new, "{}", shown);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn drift_is_tolerated_where_git_does() {
    if Repository::new().is_none() {
        return eprintln!("{SKIPPED}");
    }
    let strategy = (trees::tree(), trees::steps(), trees::steps(), options());
    let result = run_cases(CASES, &strategy, |(seed, steps, drift, options)| {
        let Some((patch, old, _)) = git_patch(&seed, &steps, &options) else { return Ok(()) };
        let (ground, repository) = (Ground::new(), Repository::new().expect("git"));
        for top in [ground.workspace(""), repository.top()] {
            trees::write(&top, &old);
            drift.iter().for_each(|step| step.apply(&top));
        }
        prop_assume!(!trees::has_loop(&repository.top()));
        let before = trees::read(&ground.workspace(""));
        let shown = String::from_utf8_lossy(&patch).into_owned();
        let git_takes_it = repository.apply(&[], &patch);
        match send(&ground, &patch, false) {
            Ok(Outcome::Applied(_)) if git_takes_it => {
                prop_assert_eq!(trees::read(&ground.workspace("")), trees::read(&repository.top()), "{}", shown);
            }
            // More is forgiven than git does.
            Ok(Outcome::Applied(_)) => {}
            other => {
                prop_assert!(!git_takes_it, "only git applies it: {other:?}\n{shown}");
                prop_assert_eq!(trees::read(&ground.workspace("")), before, "nothing is half done: {}", shown);
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// A file of few different lines, so that hunks fit in more than one place.
fn lines() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "", "{", "}"]), 0..40)
}

/// Lines put in, taken out or changed, at places that are cut to the file's length.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, Vec<&'static str>)>> {
    let new = prop::collection::vec(prop::sample::select(vec!["a", "b", "x", "y"]), 0..3);
    prop::collection::vec((0..40_usize, 0..3_usize, new), 1..4)
}

fn edited(mut lines: Vec<&'static str>, edits: &[(usize, usize, Vec<&'static str>)]) -> Vec<&'static str> {
    for (at, removed, new) in edits {
        let at = (*at).min(lines.len());
        let end = (at + removed).min(lines.len());
        lines.splice(at..end, new.iter().copied());
    }
    lines
}

#[test]
fn hunks_go_where_git_puts_them() {
    let Some(repository) = Repository::new() else { return eprintln!("{SKIPPED}") };
    let text = |lines: &[&str], whole: bool| lines.join("\n") + if whole { "\n" } else { "" };
    let context = prop::sample::select(vec!["-U1", "-U2", "-U3"]);
    let strategy = (lines(), edits(), edits(), context, any::<[bool; 3]>());
    let result = run_cases(5 * CASES, &strategy, |(old, change, drift, context, whole)| {
        let file = repository.top().join("x");
        let put = |content: &str| std::fs::write(&file, content).expect("written");
        put(&text(&old, whole[0]));
        repository.output(&["add", "x"]);
        put(&text(&edited(old.clone(), &change), whole[1]));
        let patch = repository.output(&["diff", "--no-color", context]);
        if patch.is_empty() {
            return Ok(());
        }
        let target = text(&edited(old.clone(), &drift), whole[2]);
        put(&target);
        let git_takes_it = repository.apply(&[], &patch);
        let ground = Ground::new();
        ground.put("x", &target);
        let shown = format!("{target:?}\n{}", String::from_utf8_lossy(&patch));
        // git runs lines into each other where the end of a file has moved, which is not worth following.
        if shown.contains("\\ No newline") && target != text(&old, whole[0]) {
            return Ok(());
        }
        match send(&ground, &patch, false) {
            Ok(Outcome::Applied(_)) if git_takes_it => {
                prop_assert_eq!(read(&ground, "x"), std::fs::read_to_string(&file).expect("there"), "{}", shown);
            }
            Ok(Outcome::Applied(_)) => {}
            other => {
                prop_assert!(!git_takes_it, "only git applies it: {other:?}\n{shown}");
                prop_assert_eq!(read(&ground, "x"), target, "nothing is half done");
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

const CASES: u32 = 24;

#[test]
fn a_hunk_that_does_not_fit_is_told_with_what_is_there() {
    let ground = Ground::new();
    ground.put("src/x.rs", "fn one() {\n    let a = 1;\n    go(a);\n}\n");
    ground.put("twice", "a\nb\na\nb\n");
    let patch = "--- a/src/x.rs\n+++ b/src/x.rs\n@@ -1,3 +1,3 @@ top\n fn one() {\n-    let b = 1;\n+    let b = 2;\n     go(a);\n\
                 --- a/twice\n+++ b/twice\n@@\n-b\n+c\n--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+b\n";
    let rejections = rejected(&ground, patch);
    let reasons: Vec<_> = rejections.iter().map(|rejection| rejection.reason.as_str()).collect();
    let expected = [
        "hunk 1 does not fit: its lines are not in the file",
        "hunk 1 fits in several places: give it more context",
        "there is no none",
    ];
    assert_eq!(reasons, expected);
    let hunk = rejections[0].hunk.as_ref().expect("a hunk");
    assert_eq!((hunk.number, hunk.header.as_str()), (1, "@@ -1,3 +1,3 @@ top"));
    assert_eq!(hunk.expected, ["fn one() {", "    let b = 1;", "    go(a);"]);
    let nearest: Vec<_> = hunk.nearest.iter().map(|line| (line.number, line.text.as_str())).collect();
    assert_eq!(nearest, [(1, "fn one() {"), (2, "    let a = 1;"), (3, "    go(a);")]);
    assert_eq!(rejections[1].hunk.as_ref().map(|hunk| hunk.fits_at.clone()), Some(vec![2, 4]));
}

#[test]
fn nothing_leads_out_of_the_workspace() {
    let ground = Ground::new();
    ground.put("in", "a\n");
    std::fs::write(ground.path("root/out"), "a\n").expect("written");
    symlink("..", ground.workspace("up")).expect("a link");
    symlink("../out", ground.workspace("link")).expect("a link");
    let change = |path: &str| format!("--- {path}\n+++ {path}\n@@ -1 +1 @@\n-a\n+b\n");
    check_reason(&ground, &change("../out"), "../out", "its path leads up");
    check_reason(&ground, &change("up/out"), "up/out", "up/out leads through a symbolic link");
    check_reason(&ground, &change("/etc/passwd"), "/etc/passwd", "its path is not in the workspace");
    check_reason(&ground, &change("x/../../out"), "x/../../out", "its path leads up");
    check_reason(&ground, &change("x/.git/config"), "x/.git/config", "its path is in git's own directory");
    let create = |path: &str| format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+b\n");
    check_reason(&ground, &create("up/new"), "up/new", "up is a symbolic link");
    check_reason(&ground, &create("in/new"), "in/new", "in is no directory");
    check_reason(&ground, &create("in"), "in", "it is there already");
    check_reason(
        &ground,
        "diff --git a/link b/link\nindex 1..2 100644\n--- a/link\n+++ b/link\n@@ -1 +1 @@\n-a\n+b\n",
        "link",
        "link is a symbolic link",
    );
    assert_eq!(std::fs::read_to_string(ground.path("root/out")).expect("there"), "a\n");
}

#[test]
fn what_models_send_is_understood() {
    let ground = Ground::new();
    ground.put("src/x", "one\ntwo\nthree\n");
    applied(&ground, "--- src/x\n+++ src/x\n@@ -1,9 +1,9 @@\n one\n-two\n+zwei\n three");
    applied(&ground, "Here it is:\n```diff\n--- /workspace/src/x\n+++ /workspace/src/x\n@@\n-three\n+drei\n```\n");
    applied(&ground, "--- a/src/x\r\n+++ b/src/x\r\n@@ -1 +1 @@\r\n-one\r\n+eins\r\n");
    assert_eq!(read(&ground, "src/x"), "eins\nzwei\ndrei\n");
    ground.put("crlf", "one\r\ntwo\r\n");
    applied(&ground, "--- a/crlf\n+++ b/crlf\n@@ -1,2 +1,2 @@\n one\n-two\n+zwei\n");
    assert_eq!(read(&ground, "crlf"), "one\r\nzwei\r\n");
    // The same prefix on both sides is a folder if there is one, else a prefix.
    applied(&ground, "--- a/src/x\n+++ a/src/x\n@@ -1 +1 @@\n-eins\n+uno\n");
    ground.put("a/y", "one\n");
    applied(&ground, "--- a/y\n+++ a/y\n@@ -1 +1 @@\n-one\n+uno\n");
    assert_eq!((read(&ground, "src/x"), read(&ground, "a/y")), ("uno\nzwei\ndrei\n".to_owned(), "uno\n".to_owned()));
    // Files that are said to be changed, and are not there, but begin with nothing, are new.
    let files = applied(&ground, "--- a/new/z\n+++ b/new/z\n@@ -0,0 +1 @@\n+z\n");
    assert_eq!((files[0].action, read(&ground, "new/z").as_str()), (PatchAction::Create, "z\n"));
    let files = applied(&ground, "--- a/src/x\n+++ b/src/x\n@@ -1 +1 @@\n-drei\n+tre\n");
    assert_eq!(files[0].hunks, [HunkPlace { line: 3, offset: 2 }]);
}

#[test]
fn permissions_stay_and_folders_come_and_go() {
    let ground = Ground::new();
    ground.put("private", "a\n");
    ground.put("old/deep/x", "a\n");
    let mode = |path: &str| std::fs::metadata(ground.workspace(path)).expect("there").mode() & 0o7777;
    std::fs::set_permissions(ground.workspace("private"), PermissionsExt::from_mode(0o640)).expect("set");
    applied(&ground, "--- a/private\n+++ b/private\n@@ -1 +1 @@\n-a\n+b\n");
    assert_eq!(mode("private"), 0o640);
    let files = applied(
        &ground,
        "diff --git a/private b/private\nold mode 100644\nnew mode 100755\n\
         diff --git a/old/deep/x b/new/x\nsimilarity index 100%\nrename from old/deep/x\nrename to new/x\n",
    );
    assert_eq!(
        (mode("private"), files[1].action, files[1].from.clone()),
        (0o750, PatchAction::Rename, Some("old/deep/x".into()))
    );
    assert!(!ground.workspace("old").exists() && ground.workspace("new/x").exists());
    let left: Vec<_> = std::fs::read_dir(ground.workspace(""))
        .expect("a folder")
        .map(|entry| entry.expect("one").file_name())
        .collect();
    assert_eq!(left.len(), 2, "nothing is left of the work: {left:?}");
}

#[test]
fn what_cannot_be_read_is_a_fault() {
    let ground = Ground::new();
    let check = |patch: &str, kind: FaultKind, message: &str| {
        let fault = send(&ground, patch.as_bytes(), false).expect_err("refused");
        assert_eq!((fault.kind, fault.message.as_str()), (kind, message));
    };
    check("nothing\n", FaultKind::InvalidArgument, "line 1 of the patch: nothing in it changes a file");
    check(
        "diff --git a/i.png b/i.png\nnew file mode 100644\nindex 0..1\nBinary files /dev/null and b/i.png differ\n",
        FaultKind::InvalidArgument,
        "line 1 of the patch: i.png is binary, which a patch cannot change here; write the file whole",
    );
    let short = Tool::ApplyPatch(ApplyPatch { patch_bytes: 100, dry_run: false });
    assert_eq!(ground.run(&short, b"--- a/x\n").expect_err("refused").kind, FaultKind::InvalidArgument);
}

#[test]
fn a_patch_that_fails_half_way_is_taken_back() {
    let ground = Ground::new();
    for path in ["a", "b", "dir/gone"] {
        ground.put(path, "1\n");
    }
    std::fs::create_dir(ground.workspace("m")).expect("made");
    let mounted =
        rustix::mount::mount("none", ground.workspace("m"), "tmpfs", rustix::mount::MountFlags::empty(), None);
    if mounted.is_err() {
        return eprintln!("skipped: nothing can be mounted here");
    }
    // A name cannot be exchanged with one of another file system, which only shows when it is tried.
    ground.put("m/x", "1\n");
    let before = trees::read(&ground.workspace(""));
    let change = |path: &str| format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-1\n+2\n");
    let gone = "--- a/dir/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n";
    let new = "--- /dev/null\n+++ b/fresh/deep/new\n@@ -0,0 +1 @@\n+1\n";
    let patch = [&change("a"), gone, new, &change("m/x")].concat();
    let fault = send(&ground, patch.as_bytes(), false).expect_err("failed");
    let after = trees::read(&ground.workspace(""));
    let _ = rustix::mount::unmount(ground.workspace("m"), rustix::mount::UnmountFlags::DETACH);
    assert_eq!((fault.kind, after), (FaultKind::Io, before));
    assert!(!ground.workspace("fresh").exists() && ground.workspace("dir/gone").exists());
}
