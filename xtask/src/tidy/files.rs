//! What every file has, and what no file may have.

use super::Page;
use super::scrub::code_only;
use crate::shell::root;

/// Production lines a Rust file may have; the aim is half of it.
const LINES_MAX: usize = 800;

/// Names that say nothing of what a file holds.
const EMPTY_NAMES: [&str; 10] =
    ["util", "utils", "common", "base", "core", "helper", "helpers", "manager", "misc", "stuff"];

/// Top directories of a usual Linux system: a path under any other one is a path of somebody's machine.
const USUAL_TOPS: [&str; 12] = ["bin", "dev", "etc", "home", "lib", "mnt", "opt", "root", "srv", "tmp", "usr", "var"];

pub(super) fn check(pages: &[Page], broken: &mut Vec<String>) {
    let home_paths = machine_paths();
    for page in pages {
        name(page, broken);
        if page.is_rust() {
            header(page, broken);
            length(page, broken);
            unfinished_code(page, broken);
        }
        unfinished_prose(page, broken);
        for path in &home_paths {
            report(page, broken, |line| names_path(line, path), &format!("names a path of this machine ({path})"));
        }
    }
}

fn name(page: &Page, broken: &mut Vec<String>) {
    for part in page.path.split('/') {
        let stem = part.split('.').next().unwrap_or(part);
        if EMPTY_NAMES.contains(&stem) {
            broken.push(format!("{}: `{stem}` does not say what is in it", page.path));
        }
    }
}

/// A Rust file opens with what it holds. The `UNSAFETY:` reason of a file that needs unsafe may come first.
fn header(page: &Page, broken: &mut Vec<String>) {
    let mut lines = page.text.lines().skip_while(|line| line.trim().is_empty());
    let mut first = lines.next().unwrap_or_default();
    while first.starts_with("// ") || first.is_empty() {
        let Some(next) = lines.next() else { break };
        first = next;
    }
    if !first.starts_with("//!") {
        broken.push(format!("{}: does not open with `//!` and what it holds", page.path));
    }
}

fn length(page: &Page, broken: &mut Vec<String>) {
    if page.path.contains("/tests/") {
        return;
    }
    let production = page.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count();
    if production > LINES_MAX {
        broken.push(format!("{}: {production} lines, at most {LINES_MAX}", page.path));
    }
}

fn unfinished_code(page: &Page, broken: &mut Vec<String>) {
    let code = code_only(&page.text);
    for (number, line) in code.lines().enumerate() {
        if line.contains("#[ignore") {
            broken.push(format!("{}:{}: a test that never runs", page.path, number + 1));
        }
        if line.contains("unimplemented!") || line.contains("todo!") {
            broken.push(format!("{}:{}: unfinished", page.path, number + 1));
        }
    }
}

fn unfinished_prose(page: &Page, broken: &mut Vec<String>) {
    // Put together here, so that this file does not break its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    // The rule itself must be written down somewhere.
    if page.path == "CONTRIBUTING.md" || page.path == "AGENTS.md" {
        return;
    }
    let marked =
        |line: &str| line.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| marks.contains(&word));
    report(page, broken, marked, "a mark of unfinished work");
}

fn report(page: &Page, broken: &mut Vec<String>, rule: impl Fn(&str) -> bool, what: &str) {
    for (number, line) in page.text.lines().enumerate() {
        if rule(line) {
            broken.push(format!("{}:{}: {what}", page.path, number + 1));
        }
    }
}

/// Where this clone lies, and the top directory it lies under where that is no usual one.
fn machine_paths() -> Vec<String> {
    let clone = root().to_string_lossy().into_owned();
    let mut paths = Vec::new();
    let top = clone.split('/').nth(1).unwrap_or_default();
    if !top.is_empty() && !USUAL_TOPS.contains(&top) {
        paths.push(format!("/{top}/"));
    }
    paths.push(clone);
    paths
}

fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "._-/}".contains(letter))
    })
}
