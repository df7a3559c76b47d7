//! The tools for files, over a directory in place of a machine.

mod ground;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use pyro_wire::files::{
    Difference, Edit, Edited, EntryKind, List, ListLine, NearLine, Read, ReadHead, ReadRange, WRITE_BYTES_MAX, Write,
    Written,
};
use pyro_wire::{Fault, FaultKind, Tool};
use rustix::fs::{CWD, FileType, Mode};

use crate::ground::Ground;

fn list(path: &str, recursive: bool, entries_max: u32) -> Tool {
    Tool::List(List { path: path.into(), recursive, entries_max })
}

/// The paths of a listing, and whether it was cut.
fn listed(ground: &Ground, tool: &Tool) -> (Vec<String>, bool) {
    let mut lines = ground.lines::<ListLine>(tool).expect("listed");
    let Some(ListLine::End { truncated }) = lines.pop() else { panic!("a listing has an end") };
    let path = |line| match line {
        ListLine::Entry(entry) => String::from_utf8_lossy(entry.path.as_bytes()).into_owned(),
        ListLine::End { .. } => panic!("a listing has one end"),
    };
    (lines.into_iter().map(path).collect(), truncated)
}

#[track_caller]
fn check_list(ground: &Ground, tool: &Tool, paths: &[&str], truncated: bool) {
    let (found, cut) = listed(ground, tool);
    assert_eq!((found.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), cut), (paths, truncated));
}

fn tree() -> Ground {
    let ground = Ground::new();
    ground.put("b.txt", "bee");
    ground.put("a/2", "");
    ground.put("a/1/x", "");
    ground.put("c", "");
    symlink("/workspace/a", ground.workspace("link")).expect("a link");
    ground
}

#[test]
fn a_listing_is_sorted_and_cut_where_it_was_asked_to_be() {
    let ground = tree();
    check_list(&ground, &list("/workspace", false, 100), &["a", "b.txt", "c", "link"], false);
    check_list(&ground, &list("/workspace", true, 100), &["a", "a/1", "a/1/x", "a/2", "b.txt", "c", "link"], false);
    check_list(&ground, &list("/workspace", true, 7), &["a", "a/1", "a/1/x", "a/2", "b.txt", "c", "link"], false);
    check_list(&ground, &list("/workspace", true, 3), &["a", "a/1", "a/1/x"], true);
    check_list(&ground, &list("/workspace", false, 4), &["a", "b.txt", "c", "link"], false);
    check_list(&ground, &list("/workspace", false, 2), &["a", "b.txt"], true);
    check_list(&ground, &list("/workspace/link", false, 100), &["1", "2"], false);
    check_list(&ground, &list("/workspace/b.txt", false, 100), &["b.txt"], false);
    check_list(&ground, &list("/", false, 100), &["workspace"], false);
}

#[test]
fn an_entry_says_what_it_is() {
    let ground = tree();
    std::fs::set_permissions(ground.workspace("b.txt"), PermissionsExt::from_mode(0o4751)).expect("permitted");
    let lines = ground.lines::<ListLine>(&list("/workspace", false, 100)).expect("listed");
    let entries: Vec<_> = lines
        .into_iter()
        .filter_map(|line| if let ListLine::Entry(entry) = line { Some(entry) } else { None })
        .collect();
    let [a, b, _, link] = entries.as_slice() else { panic!("four entries") };
    assert_eq!(a.kind, EntryKind::Directory);
    assert_eq!((b.kind, b.size_bytes, b.mode, &b.target), (EntryKind::File, 3, 0o4751, &None));
    assert!(b.modified_unix_ns > 1_500_000_000_000_000_000);
    assert_eq!((link.kind, link.target.as_ref()), (EntryKind::Symlink, Some(&"/workspace/a".into())));
}

#[track_caller]
fn check_fault(ground: &Ground, tool: &Tool, kind: FaultKind, message: &str) {
    let fault = ground.run(tool, b"").expect_err("refused");
    assert_eq!((fault.kind, fault.message.as_str()), (kind, message));
}

#[test]
fn what_cannot_be_listed_says_why() {
    let ground = tree();
    symlink("/workspace/../..", ground.workspace("out")).expect("a link");
    check_list(&ground, &list("/workspace/out", false, 1), &["workspace"], false);
    check_fault(&ground, &list("/nowhere", false, 1), FaultKind::NotFound, "cannot open /nowhere: it is not there");
    check_fault(&ground, &list("here", false, 1), FaultKind::InvalidArgument, "here is not an absolute path");
    let below_file = "cannot open /workspace/c/x: a part of it is no directory";
    check_fault(&ground, &list("/workspace/c/x", false, 1), FaultKind::WrongKind, below_file);
}

fn read(path: &str, range: ReadRange, bytes_max: u32) -> Tool {
    Tool::Read(Read { path: path.into(), range, bytes_max })
}

fn lines(first: u64, count: Option<u64>) -> ReadRange {
    ReadRange::Lines { first, count }
}

fn from(offset: u64) -> ReadRange {
    ReadRange::Bytes { offset }
}

/// What a reading answered: its head, and the content.
fn read_file(ground: &Ground, tool: &Tool) -> Result<(ReadHead, Vec<u8>), Fault> {
    let answer = ground.run(tool, b"")?;
    let end = answer.iter().position(|byte| *byte == b'\n').expect("a head");
    let head: ReadHead = serde_json::from_slice(&answer[..end]).expect("a head");
    let content = answer[end + 1..].to_vec();
    assert_eq!(content.len(), head.content_bytes as usize);
    Ok((head, content))
}

/// Content, offset, first line, whether it reaches the end.
type Part<'a> = (&'a [u8], u64, Option<u64>, bool);

#[track_caller]
fn check_part(ground: &Ground, tool: &Tool, part: Part<'_>) {
    let (head, content) = read_file(ground, tool).expect("read");
    assert_eq!((content.as_slice(), head.offset_bytes, head.first_line, head.at_end), part);
}

#[test]
fn a_file_is_read_by_lines() {
    let ground = Ground::new();
    ground.put("f", "one\ntwo\nthree\nfour");
    let check = |range, bytes_max, part| check_part(&ground, &read("/workspace/f", range, bytes_max), part);
    check(lines(1, None), 100, (b"one\ntwo\nthree\nfour", 0, Some(1), true));
    check(lines(2, Some(2)), 100, (b"two\nthree\n", 4, Some(2), false));
    check(lines(4, Some(9)), 100, (b"four", 14, Some(4), true));
    check(lines(9, Some(1)), 100, (b"", 18, Some(9), true));
    check(lines(1, Some(0)), 100, (b"", 0, Some(1), false));
    check(lines(2, None), 11, (b"two\nthree\n", 4, Some(2), false));
    check(lines(2, None), 10, (b"two\nthree\n", 4, Some(2), false));
    check(lines(2, None), 9, (b"two\n", 4, Some(2), false));
    check(lines(3, None), 3, (b"thr", 8, Some(3), false));
    check(lines(u64::MAX, None), 3, (b"", 18, Some(u64::MAX), true));
    let (head, _) = read_file(&ground, &read("/workspace/f", lines(1, Some(1)), 9)).expect("read");
    assert_eq!((head.size_bytes, head.mode & 0o600, head.is_text, head.line_count), (18, 0o600, true, Some(4)));
}

#[test]
fn a_file_is_read_by_bytes() {
    let ground = Ground::new();
    ground.put("f", "one\ntwo\n");
    let check = |range, bytes_max, part| check_part(&ground, &read("/workspace/f", range, bytes_max), part);
    check(from(0), 100, (b"one\ntwo\n", 0, Some(1), true));
    check(from(2), 3, (b"e\nt", 2, None, false));
    check(from(5), 3, (b"wo\n", 5, None, true));
    check(from(100), 3, (b"", 100, None, true));
    check(from(u64::MAX), 3, (b"", i64::MAX.unsigned_abs(), None, true));
}

#[test]
fn bytes_are_told_from_text() {
    let ground = Ground::new();
    ground.put("binary", b"\x7fELF\0\0\xff\n");
    ground.put("latin", b"caf\xe9\n");
    ground.put("late", [vec![b'x'; 9000], vec![0]].concat());
    ground.put("empty", b"");
    let facts = |name: &str, range| {
        let (head, _) = read_file(&ground, &read(&format!("/workspace/{name}"), range, 20_000)).expect("read");
        (head.is_text, head.line_count)
    };
    assert_eq!(facts("binary", from(0)), (false, None));
    assert_eq!(facts("binary", from(6)), (false, None), "what comes before counts too");
    assert_eq!(facts("latin", from(0)), (true, Some(1)));
    assert_eq!(facts("late", from(0)), (false, None));
    assert_eq!(facts("late", lines(2, None)), (true, Some(1)));
    assert_eq!(facts("empty", lines(1, None)), (true, Some(0)));
}

#[test]
fn files_of_the_kernel_are_read_though_they_say_that_they_are_empty() {
    let answer = ground::run(&read("/proc/self/status", lines(1, Some(1)), 1000), b"", &[]).expect("read");
    assert!(String::from_utf8_lossy(&answer).contains("\nName:\tpyro-guest\n"), "{answer:?}");
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let ground = tree();
    fifo(&ground.workspace("pipe"));
    let check = |path: &str, kind, message: &str| check_fault(&ground, &read(path, lines(1, None), 9), kind, message);
    check("/workspace/pipe", FaultKind::WrongKind, "/workspace/pipe is a named pipe, not a file");
    check("/workspace/a", FaultKind::WrongKind, "/workspace/a is a directory, not a file");
    check("/workspace/link", FaultKind::WrongKind, "/workspace/link is a directory, not a file");
    check("/workspace/no", FaultKind::NotFound, "cannot open /workspace/no: it is not there");
    let zero = read("/workspace/b.txt", lines(0, None), 9);
    check_fault(&ground, &zero, FaultKind::InvalidArgument, "lines count from 1");
    let write = ground.run(&write("/workspace/pipe", b"x"), b"x").expect_err("refused");
    assert_eq!(write.kind, FaultKind::WrongKind);
}

fn write(path: &str, content: &[u8]) -> Tool {
    Tool::Write(Write { path: path.into(), size_bytes: u32::try_from(content.len()).expect("short") })
}

fn write_file(ground: &Ground, path: &str, content: &[u8]) -> Result<Written, Fault> {
    let answer = ground.run(&write(path, content), content)?;
    Ok(serde_json::from_slice(&answer).expect("one line"))
}

#[test]
fn a_new_file_gets_its_parents() {
    let ground = Ground::new();
    let written = write_file(&ground, "/workspace/a/b/c.txt", b"hello\0").expect("written");
    assert_eq!(written, Written { created: true, size_bytes: 6, mode: 0o644 });
    assert_eq!(std::fs::read(ground.workspace("a/b/c.txt")).expect("there"), b"hello\0");
    let mode = |path: &str| std::fs::metadata(ground.workspace(path)).expect("there").mode() & 0o7777;
    assert_eq!((mode("a/b"), mode("a/b/c.txt")), (0o755, 0o644));
    assert_eq!(names(&ground.workspace("a/b")), ["c.txt"]);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("there");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn a_replaced_file_keeps_its_mode_and_is_replaced_whole() {
    let ground = Ground::new();
    ground.put("run.sh", "old");
    std::fs::set_permissions(ground.workspace("run.sh"), PermissionsExt::from_mode(0o2755)).expect("permitted");
    let old = std::fs::File::open(ground.workspace("run.sh")).expect("open");
    let written = write_file(&ground, "/workspace/run.sh", b"new!").expect("written");
    assert_eq!(written, Written { created: false, size_bytes: 4, mode: 0o2755 });
    assert_eq!(std::fs::metadata(ground.workspace("run.sh")).expect("there").mode() & 0o7777, 0o2755);
    assert_eq!(std::io::read_to_string(old).expect("still there"), "old", "who has it open keeps the old one");
}

#[test]
fn a_link_is_written_through() {
    let ground = tree();
    symlink("c", ground.workspace("to-c")).expect("a link");
    symlink("/workspace/a/new", ground.workspace("to-new")).expect("a link");
    symlink("../../../../workspace/to-c", ground.workspace("up")).expect("a link");
    assert!(!write_file(&ground, "/workspace/to-c", b"1").expect("written").created);
    assert!(write_file(&ground, "/workspace/to-new", b"2").expect("written").created);
    assert!(write_file(&ground, "/workspace/link/3", b"3").expect("written").created);
    let content = |path: &str| std::fs::read_to_string(ground.workspace(path)).expect("there");
    assert_eq!((content("c").as_str(), content("a/new").as_str(), content("a/3").as_str()), ("1", "2", "3"));
    assert!(!write_file(&ground, "/workspace/up", b"4").expect("written").created);
    assert_eq!(content("c"), "4");
    assert!(ground.workspace("to-c").is_symlink());
    symlink("loop", ground.workspace("loop")).expect("a link");
    assert_eq!(write_file(&ground, "/workspace/loop", b"").expect_err("refused").kind, FaultKind::InvalidArgument);
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let ground = tree();
    let refused = |path: &str, kind| {
        let fault = write_file(&ground, path, b"x").expect_err("refused");
        assert_eq!(fault.kind, kind, "{fault}");
    };
    refused("/workspace/a", FaultKind::WrongKind);
    refused("/workspace/new/", FaultKind::WrongKind);
    refused("/workspace/..", FaultKind::WrongKind);
    refused("/workspace/c/below", FaultKind::WrongKind);
    refused("relative", FaultKind::InvalidArgument);
    let announced = ground.run(&write("/workspace/short", b"1234"), b"123").expect_err("refused");
    assert_eq!(announced.kind, FaultKind::InvalidArgument);
    let announced = ground.run(&write("/workspace/long", b"12"), b"123").expect_err("refused");
    assert_eq!(announced.kind, FaultKind::InvalidArgument);
    let large = Tool::Write(Write { path: "/workspace/large".into(), size_bytes: WRITE_BYTES_MAX + 1 });
    assert_eq!(ground.run(&large, b"").expect_err("refused").kind, FaultKind::TooLarge);
    assert_eq!(names(&ground.workspace("")), ["a", "b.txt", "c", "link"]);
}

fn edit_file(ground: &Ground, path: &str, texts: (&str, &str), replace_all: bool) -> Result<Edited, Fault> {
    let (old, new) = texts;
    let size = |text: &str| u32::try_from(text.len()).expect("short");
    let edit = Edit { path: path.into(), old_bytes: size(old), new_bytes: size(new), replace_all };
    let answer = ground.run(&Tool::Edit(edit), [old, new].concat().as_bytes())?;
    Ok(serde_json::from_slice(&answer).expect("one line"))
}

#[test]
fn an_edit_replaces_what_is_there_once() {
    let ground = Ground::new();
    ground.put("f", "a\nb\nc\nb\n");
    std::fs::set_permissions(ground.workspace("f"), PermissionsExt::from_mode(0o600)).expect("permitted");
    symlink("f", ground.workspace("link")).expect("a link");
    let edit = |texts, all| edit_file(&ground, "/workspace/link", texts, all).expect("edited");
    let content = || std::fs::read_to_string(ground.workspace("f")).expect("there");
    assert_eq!(edit(("b\n", "x"), false), Edited::Ambiguous { count: 2, lines: vec![2, 4] });
    assert_eq!(content(), "a\nb\nc\nb\n");
    assert_eq!(edit(("c\nb", "c\nd\ne"), false), Edited::Done { count: 1, lines: vec![3], size_bytes: 10 });
    assert_eq!(content(), "a\nb\nc\nd\ne\n");
    assert_eq!(edit(("\n", ""), true), Edited::Done { count: 5, lines: vec![1], size_bytes: 5 });
    assert_eq!(content(), "abcde");
    assert_eq!(std::fs::metadata(ground.workspace("f")).expect("there").mode() & 0o7777, 0o600);
    assert!(ground.workspace("link").is_symlink());
}

#[test]
fn an_edit_that_misses_shows_what_is_near() {
    let ground = Ground::new();
    ground.put("f", "fn main() {\r\n    run();\r\n}\r\n");
    let missing = |texts| match edit_file(&ground, "/workspace/f", texts, false).expect("looked") {
        Edited::Missing { nearest, difference } => (nearest, difference),
        edited => panic!("{edited:?}"),
    };
    let (nearest, difference) = missing(("main() {\n    run();", ""));
    assert_eq!(difference, Some(Difference::LineEnds));
    assert_eq!(nearest.first(), Some(&NearLine { number: 1, text: "fn main() {\r".to_owned() }));
    let (nearest, difference) = missing(("fn mein() {", ""));
    assert_eq!((nearest.len(), difference), (1, None));
    assert_eq!(missing(("entirely unlike", "")), (vec![], None));
}

#[test]
fn an_edit_that_makes_no_sense_is_refused() {
    let ground = tree();
    let long = "x".repeat(WRITE_BYTES_MAX as usize / 999);
    let refused = |path: &str, texts, kind| {
        let fault = edit_file(&ground, path, texts, true).expect_err("refused");
        assert_eq!(fault.kind, kind, "{fault}");
    };
    refused("/workspace/b.txt", ("", "x"), FaultKind::InvalidArgument);
    refused("/workspace/b.txt", ("bee", "bee"), FaultKind::InvalidArgument);
    refused("/workspace/a", ("x", "y"), FaultKind::WrongKind);
    refused("/workspace/none", ("x", "y"), FaultKind::NotFound);
    ground.put("many", "e".repeat(1000));
    refused("/workspace/many", ("e", &long), FaultKind::TooLarge);
    assert_eq!(std::fs::read(ground.workspace("many")).expect("there").len(), 1000);
    std::fs::File::create(ground.workspace("large")).and_then(|file| file.set_len(1 << 30)).expect("sparse");
    refused("/workspace/large", ("x", "y"), FaultKind::TooLarge);
}
