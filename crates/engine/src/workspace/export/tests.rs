//! What a hostile guest may say, and what becomes of it on the host.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::super::guest_path::GuestPath;
use super::super::tool::{CannedHost, Exit};
use super::{
    CrossedPatch, Crossing, ExportError, ExportNoteKind, ExportRequest, ExportSummary, GuestNoteKind, Output,
    ToolError, export, export_patch,
};
use crate::workspace::diff::DiffRequest;

fn entry(path: &str, kind: &str, mode: u32) -> String {
    format!("{{\"entry\":{{\"path\":{path:?},\"kind\":{kind},\"mode\":{mode},\"modified_unix_ns\":1000000005}}}}\n")
}

fn dir(path: &str) -> String {
    entry(path, "\"directory\"", 0o755)
}

fn file(path: &str, content: &str) -> String {
    format!("{}{content}", entry(path, &format!("{{\"file\":{{\"size_bytes\":{}}}}}", content.len()), 0o644))
}

fn link(path: &str, target: &str) -> String {
    entry(path, &format!("{{\"symlink\":{{\"target\":{target:?}}}}}"), 0o777)
}

const END: &str = "{\"end\":{\"notes\":0}}\n";

fn to(path: &Path, force: bool) -> Output {
    Output { path: path.to_owned(), called: "out".to_owned(), force, secrets: false }
}

fn request(output: &Path, force: bool) -> ExportRequest {
    ExportRequest { path: GuestPath::workspace(), output: to(output, force) }
}

async fn run(output: &Path, answer: &str, force: bool) -> Result<ExportSummary, ExportError> {
    export(&CannedHost::answering(answer), &request(output, force), &|_| ()).await
}

/// The names beside the output, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_tree_arrives_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("out");
    let read_only = entry("d", "\"directory\"", 0o555);
    let answer = [&dir(""), &read_only, &file("d/x", "hello\n"), &link("d/to", "../y"), &file("y", ""), END].concat();
    let host = CannedHost::answering(answer);
    let summary = export(&host, &request(&output, false), &|_| ()).await.unwrap();
    assert_eq!((summary.files, summary.directories, summary.links, summary.bytes), (2, 2, 1, 6));
    let crossed = host.crossed.lock().unwrap().pop();
    assert!(matches!(crossed, Some(Crossing::Export(files)) if (files.entries, &*files.destination) == (5, "out")));
    assert!(summary.is_directory && summary.notes.is_empty() && summary.sha256.len() == 64);
    assert_eq!(std::fs::read_to_string(output.join("d/x")).unwrap(), "hello\n");
    assert_eq!(std::fs::read_link(output.join("d/to")).unwrap(), Path::new("../y"));
    let metadata = std::fs::metadata(output.join("d/x")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec()), (0o644, 1, 5));
    assert_eq!(std::fs::metadata(output.join("d")).unwrap().mode() & 0o7777, 0o555);
    assert_eq!(names(home.path()), ["out"], "nothing is left beside it");
    std::fs::set_permissions(output.join("d"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_file_is_known_by_its_hash_and_gives_no_rights_away() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("tool");
    let answer = format!("{}abc{END}", entry("", "{\"file\":{\"size_bytes\":3}}", 0o6755));
    let summary = run(&output, &answer, false).await.unwrap();
    assert_eq!(summary.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(std::fs::metadata(&output).unwrap().mode() & 0o7777, 0o755);
}

#[tokio::test]
async fn what_is_all_zero_takes_no_room() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("out");
    let zeros = "\0".repeat(4 << 20);
    let content = format!("{zeros}middle{zeros}");
    let answer = [&dir(""), &file("holes", &content), &file("end", &zeros), END].concat();
    let summary = run(&output, &answer, false).await.unwrap();
    assert_eq!(summary.bytes, (3 * zeros.len() + "middle".len()) as u64);
    for (name, expected) in [("holes", content.as_bytes()), ("end", zeros.as_bytes())] {
        assert!(std::fs::read(output.join(name)).unwrap() == expected, "{name} is not what was sent");
        let room = std::fs::metadata(output.join(name)).unwrap().blocks() * 512;
        assert!(room <= 1 << 20, "{name} takes {room} bytes");
    }
}

#[tokio::test]
async fn links_that_lead_out_are_left_out() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("out");
    let note = "{\"note\":{\"path\":\"pipe\",\"kind\":\"special\"}}\n";
    let answer = [&dir(""), &link("abs", "/etc"), &link("up", "../x"), note, "{\"end\":{\"notes\":3}}\n"].concat();
    let summary = run(&output, &answer, false).await.unwrap();
    assert_eq!((summary.links, summary.note_count, names(&output).len()), (0, 5, 0));
    let kinds: Vec<_> = summary.notes.iter().map(|note| note.kind.clone()).collect();
    let out = |target: &str| ExportNoteKind::LinkOut { target: target.into() };
    assert_eq!(kinds, [out("/etc"), out("../x"), ExportNoteKind::Guest(GuestNoteKind::Special)]);
}

#[tokio::test]
async fn what_a_hostile_guest_says_touches_nothing_outside() {
    let home = tempfile::tempdir().unwrap();
    let inner = home.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(home.path().join("kept"), "kept").unwrap();
    let output = inner.join("out");
    let attacks = [
        [&dir(""), &file("../kept", "x"), END].concat(),
        [&dir(""), &file("a/../../kept", "x"), END].concat(),
        [&dir(""), &file("/tmp/pyro-was-here", "x"), END].concat(),
        [&dir(""), &file("a//b", "x"), END].concat(),
        [&dir(""), &file("nul\0", "x"), END].concat(),
        // A link, then something through it.
        [&dir(""), &dir("d"), &link("d/l", "../e"), &dir("e"), &file("d/l/x", "x"), END].concat(),
        [&dir(""), &link("l", "."), &file("l/x", "x"), END].concat(),
        // The same name twice: a directory, then a link in its place.
        [&dir(""), &dir("d"), &link("d", "."), END].concat(),
        [&dir(""), &file("x", "1"), &file("x", "2"), END].concat(),
        [&dir(""), &dir(""), END].concat(),
        [&dir(""), &file("no/dir", "x"), END].concat(),
        [&file("", "x"), &file("y", "x"), END].concat(),
        [&link("", "x"), END].concat(),
        [&dir("a"), END].concat(),
        END.to_owned(),
        String::new(),
        // Less than was announced, and more than the end.
        [&dir(""), &entry("x", "{\"file\":{\"size_bytes\":5}}", 0o644), "abc"].concat(),
        [&dir(""), END, END].concat(),
        [&dir(""), &entry("x", "\"device\"", 0o644), END].concat(),
    ];
    for answer in attacks {
        let error = run(&output, &answer, false).await.unwrap_err();
        assert!(matches!(error, ExportError::Tool(ToolError::Garbled { .. })), "{answer:?}: {error}");
        assert_eq!((names(&inner), names(home.path())), (Vec::new(), vec!["inner".to_owned(), "kept".to_owned()]));
    }
    let huge =
        [&dir(""), &entry("x", "{\"file\":{\"size_bytes\":18446744073709551615}}", 0o644)].map(String::as_str).concat();
    assert!(matches!(run(&output, &huge, false).await, Err(ExportError::TooMuch { .. })));
    assert_eq!(std::fs::read_to_string(home.path().join("kept")).unwrap(), "kept");
}

#[tokio::test]
async fn what_is_there_stays_unless_it_is_to_be_replaced() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("out");
    std::fs::create_dir(&output).unwrap();
    std::fs::write(output.join("old"), "old").unwrap();
    let answer = [&dir(""), &file("new", "new"), END].concat();
    assert!(matches!(run(&output, &answer, false).await, Err(ExportError::Exists { .. })));
    // A guest that fails half-way replaces nothing.
    let half = [dir(""), file("new", "new")].concat();
    assert!(run(&output, &half, true).await.is_err());
    assert_eq!((names(&output), names(home.path())), (vec!["old".to_owned()], vec!["out".to_owned()]));
    run(&output, &answer, true).await.unwrap();
    assert_eq!((names(&output), names(home.path())), (vec!["new".to_owned()], vec!["out".to_owned()]));
    // A link in its place is replaced, not followed.
    std::os::unix::fs::symlink("out", home.path().join("link")).unwrap();
    run(&home.path().join("link"), &[&file("", "x"), END].concat(), true).await.unwrap();
    assert_eq!(
        (names(&output), std::fs::read_to_string(home.path().join("link")).unwrap()),
        (vec!["new".to_owned()], "x".to_owned())
    );
}

#[tokio::test]
async fn an_output_needs_a_place() {
    let home = tempfile::tempdir().unwrap();
    for output in ["missing/out", "..", "/"] {
        let error = run(&home.path().join(output), END, false).await.unwrap_err();
        assert!(matches!(error, ExportError::NoDirectory { .. }), "{output}: {error}");
    }
}

#[tokio::test]
async fn a_patch_is_written_whole_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("x.patch");
    let change = r#"{"change":{"path":"x","new":{"kind":"file","mode":420,"size_bytes":2},"content":"sent"}}"#;
    let mut host = CannedHost::answering(format!("{change}\na\n{{\"end\":{{\"ignored\":0,\"notes\":[]}}}}\n"));
    let exported = export_patch(&host, &DiffRequest::default(), &to(&output, false)).await.unwrap();
    assert_eq!((exported.summary.files.len(), exported.bytes), (1, std::fs::metadata(&output).unwrap().len()));
    let (path, digest) = (Some("out".to_owned()), exported.sha256.clone());
    let crossing = Crossing::PatchOut(CrossedPatch { path, entries: 1, bytes: exported.bytes, digest });
    assert_eq!(*host.crossed.lock().unwrap(), [crossing]);
    assert!(std::fs::read_to_string(&output).unwrap().ends_with("@@ -0,0 +1 @@\n+a\n"));
    (host.exit, host.answer) = (Exit::Code(1), br#"{"kind":"io","message":"no"}"#.to_vec());
    assert!(export_patch(&host, &DiffRequest::default(), &to(&output, true)).await.is_err());
    assert!(output.exists() && names(home.path()) == ["x.patch"]);
}
