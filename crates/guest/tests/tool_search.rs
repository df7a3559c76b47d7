//! The tool for searching, over a directory in place of a machine.

mod ground;

use std::os::unix::fs::symlink;

use pyro_wire::search::{Case, LINE_BYTES_MAX, Pattern, Query, Search, SearchEnd, SearchLine};
use pyro_wire::tool::{ANSWER_LINE_BYTES, ANSWER_TEXT_BYTES_MAX};
use pyro_wire::{FaultKind, Tool};

use crate::ground::Ground;

fn pattern(text: &str) -> Pattern {
    Pattern { text: text.to_owned(), fixed: false, case: Case::Sensitive }
}

fn in_lines(text: &str) -> Search {
    search(Query::Lines { pattern: pattern(text), context_lines: 0 })
}

fn search(query: Query) -> Search {
    Search { path: "/workspace".into(), query, globs: vec![], ignored_too: false, results_max: 100 }
}

/// What was found, a line for each thing: `path`, `path:number:match`, `path-number-context`.
fn found(ground: &Ground, search: Search) -> (Vec<String>, SearchEnd) {
    let mut lines = ground.lines::<SearchLine>(&Tool::Search(search)).expect("searched");
    let Some(SearchLine::End(end)) = lines.pop() else { panic!("a search has an end") };
    let mut path = String::new();
    let line = |line| match line {
        SearchLine::File { path: found } => {
            path = String::from_utf8_lossy(found.as_bytes()).into_owned();
            path.clone()
        }
        SearchLine::Line(line) => {
            let mark = if line.is_match { ':' } else { '-' };
            format!("{path}{mark}{}{mark}{}{}", line.number, line.text, if line.is_cut { "…" } else { "" })
        }
        SearchLine::End(_) => panic!("a search has one end"),
    };
    (lines.into_iter().map(line).collect(), end)
}

#[track_caller]
fn check(ground: &Ground, search: Search, expected: &[&str], truncated: bool) {
    let (lines, end) = found(ground, search);
    assert_eq!((lines.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), end.truncated), (expected, truncated));
}

fn project() -> Ground {
    let ground = Ground::new();
    ground.put("src/main.rs", "fn main() {\n    run();\n}\n");
    ground.put("src/run.rs", "/// Runs.\npub fn run() {}\n\n#[test]\nfn runs() {\n    run();\n}\n");
    ground.put("README.md", "Run it.\r\n");
    ground.put(".github/ci.yml", "run: make\n");
    ground.put(".gitignore", "target/\n*.log\n");
    ground.put("target/run.rs", "run\n");
    ground.put("x.log", "run\n");
    ground.put(".git/config", "run\n");
    ground.put("program", "\x7fELF\0 run\n");
    symlink("src", ground.workspace("link")).expect("a link");
    ground
}

#[test]
fn lines_are_found_file_by_file() {
    let ground = project();
    let expected =
        [".github/ci.yml", ".github/ci.yml:1:run: make", "src/main.rs", "src/main.rs:2:    run();", "src/run.rs"];
    let in_run = ["src/run.rs:2:pub fn run() {}", "src/run.rs:5:fn runs() {", "src/run.rs:6:    run();"];
    let all: Vec<&str> = expected.into_iter().chain(in_run).collect();
    check(&ground, in_lines("run"), &all, false);
    let (_, end) = found(&ground, in_lines("run"));
    assert_eq!((end.result_count, end.skipped_files), (5, 0));
    check(&ground, in_lines("^run.*e$"), &all[..2], false);
    check(&ground, in_lines("it\\.$"), &["README.md", "README.md:1:Run it."], false);
    check(&ground, in_lines("nowhere"), &[], false);
    let fixed = Pattern { fixed: true, ..pattern("run()") };
    let query = Query::FilesWithMatch { pattern: fixed };
    check(&ground, search(query), &["src/main.rs", "src/run.rs"], false);
    let insensitive = Pattern { case: Case::Insensitive, ..pattern("RUN ") };
    let query = Query::Lines { pattern: insensitive, context_lines: 0 };
    check(&ground, search(query), &["README.md", "README.md:1:Run it."], false);
}

#[test]
fn where_to_search_can_be_narrowed_and_widened() {
    let ground = project();
    let files = |globs: &[&str]| Search {
        globs: globs.iter().map(|glob| (*glob).to_owned()).collect(),
        ..search(Query::Files)
    };
    let all = [".github/ci.yml", ".gitignore", "README.md", "program", "src/main.rs", "src/run.rs"];
    check(&ground, files(&[]), &all, false);
    check(&ground, files(&["*.rs"]), &all[4..], false);
    check(&ground, files(&["src/*.rs", "!run*"]), &all[4..5], false);
    check(&ground, files(&["*.{md,yml}"]), &[all[0], all[2]], false);
    let ignored_too = Search { ignored_too: true, ..files(&["run.rs", "*.log"]) };
    check(&ground, ignored_too, &["src/run.rs", "target/run.rs", "x.log"], false);
    let below = Search { path: "/workspace/src".into(), ..files(&["main*"]) };
    check(&ground, below, &["main.rs"], false);
    let through_link = Search { path: "/workspace/link".into(), ..files(&["main*"]) };
    check(&ground, through_link, &["main.rs"], false);
    let ignored_dir = Search { path: "/workspace/target".into(), ..files(&[]) };
    check(&ground, ignored_dir, &["run.rs"], false);
    let one = Search { path: "/workspace/x.log".into(), ..in_lines("run") };
    check(&ground, one, &["", ":1:run"], false);
    let from_top = Search { path: "/".into(), ..files(&["main.rs"]) };
    check(&ground, from_top, &["workspace/src/main.rs"], false);
}

#[test]
fn a_search_stops_where_it_was_asked_to() {
    let ground = Ground::new();
    ground.put("a", "1 x\n2\n3 x\n4\n5\n6\n7 x\n");
    ground.put("b", "x\n");
    let limited = |results_max, context_lines| Search {
        results_max,
        ..search(Query::Lines { pattern: pattern("x"), context_lines })
    };
    check(&ground, limited(4, 0), &["a", "a:1:1 x", "a:3:3 x", "a:7:7 x", "b", "b:1:x"], false);
    check(&ground, limited(3, 0), &["a", "a:1:1 x", "a:3:3 x", "a:7:7 x"], true);
    check(&ground, limited(2, 0), &["a", "a:1:1 x", "a:3:3 x"], true);
    check(&ground, limited(2, 1), &["a", "a:1:1 x", "a-2-2", "a:3:3 x", "a-4-4"], true);
    let end = found(&ground, limited(2, 0)).1;
    assert_eq!((end.result_count, end.searched_files), (2, 1));
    let files = Search { results_max: 1, ..search(Query::FilesWithMatch { pattern: pattern("x") }) };
    check(&ground, files, &["a"], true);
    check(&ground, Search { results_max: 1, ..search(Query::Files) }, &["a"], true);
    check(&ground, Search { results_max: 2, ..search(Query::Files) }, &["a", "b"], false);
}

#[test]
fn long_lines_are_cut_around_their_match() {
    let ground = Ground::new();
    ground.put("long", format!("{}needle{}\n", "ä".repeat(5000), "y".repeat(5000)));
    let (lines, _) = found(&ground, in_lines("needle"));
    let [_, line] = lines.as_slice() else { panic!("one match: {lines:?}") };
    assert!(line.contains("ääneedleyy") && line.ends_with('…') && !line.contains('\u{fffd}'), "{line}");
    assert!(line.len() <= LINE_BYTES_MAX + 20);
}

#[test]
fn files_of_all_lengths_and_letters_are_searched() {
    let ground = Ground::new();
    for length in [65_535, 65_536, 65_537, 200_000] {
        let line = "y".repeat(99) + "\n";
        let mut content = line.repeat(length / 100);
        content.truncate(length - 7);
        ground.put(&format!("f{length:06}"), content + "\nneedle");
    }
    let utf16: Vec<u8> = "\u{feff}a needle\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    ground.put("utf16", utf16);
    ground.put("binary-late", [b"needle\n".repeat(2000), vec![0]].concat());
    let query = Query::FilesWithMatch { pattern: pattern("needle$") };
    let expected = ["f065535", "f065536", "f065537", "f200000", "utf16"];
    check(&ground, search(query), &expected, false);
}

#[test]
fn an_answer_never_grows_without_bound() {
    let ground = Ground::new();
    let line = format!("x{}\n", "y".repeat(LINE_BYTES_MAX - 1));
    let lines_max = ANSWER_TEXT_BYTES_MAX / (LINE_BYTES_MAX + ANSWER_LINE_BYTES);
    ground.put("wide", line.repeat(lines_max * 3 / 2));
    for context_lines in [0, 50] {
        let query = Query::Lines { pattern: pattern("x"), context_lines };
        let (lines, end) = found(&ground, Search { results_max: 100_000, ..search(query) });
        assert_eq!((lines.len(), end.truncated), (lines_max + 1, true));
    }
    let narrow = Search { results_max: 100_000, ..in_lines("x") };
    ground.put("wide", "x\n".repeat(20_000));
    let (_, end) = found(&ground, narrow);
    assert_eq!((end.result_count, end.truncated), (10_000, true));
}

#[track_caller]
fn check_fault(ground: &Ground, search: Search, kind: FaultKind, message: &str) {
    let fault = ground.run(&Tool::Search(search), b"").expect_err("refused");
    assert_eq!((fault.kind, fault.message.as_str()), (kind, message));
}

#[test]
fn what_cannot_be_searched_says_why() {
    let ground = project();
    let invalid = FaultKind::InvalidArgument;
    check_fault(&ground, in_lines("("), invalid, "the pattern is not valid: unclosed group");
    check_fault(&ground, in_lines(""), invalid, "the pattern is not valid: it is empty");
    let glob = Search { globs: vec!["a{b".to_owned()], ..search(Query::Files) };
    let unclosed = "the glob a{b is not valid: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)";
    check_fault(&ground, glob, invalid, unclosed);
    let nowhere = Search { path: "/workspace/none".into(), ..in_lines("x") };
    check_fault(&ground, nowhere, FaultKind::NotFound, "cannot open /workspace/none: it is not there");
    let context = search(Query::Lines { pattern: pattern("x"), context_lines: 51 });
    check_fault(&ground, context, invalid, "at most 50 lines of context can be shown");
}
