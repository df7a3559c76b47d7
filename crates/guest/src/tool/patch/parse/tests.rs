//! What is read of a patch, what is refused, and that no bytes break the reader.

use proptest::prelude::*;

use super::{FilePatch, GitMode, Origin, Problem, Sign, parse};

/// A file of a patch in one line: names, origin and modes, then each hunk's signs and place.
fn summary(file: &FilePatch<'_>) -> String {
    let name = |name: &Option<Vec<u8>>| {
        name.as_ref().map_or("-".to_owned(), |name| String::from_utf8_lossy(name).into_owned())
    };
    let mode = |mode: Option<GitMode>| {
        mode.map_or("", |mode| match mode {
            GitMode::File => "f",
            GitMode::Executable => "x",
            GitMode::Link => "l",
        })
    };
    let origin = match file.origin {
        Origin::Own => "own",
        Origin::Renamed => "renamed",
        Origin::Copied => "copied",
    };
    let mut words =
        format!("{} {} {origin} {}>{}", name(&file.old), name(&file.new), mode(file.old_mode), mode(file.new_mode));
    for hunk in &file.hunks {
        let place = hunk.place.map_or("?".to_owned(), |place| format!("{}/{}", place.old, place.new));
        let signs: String = hunk
            .lines
            .iter()
            .map(|line| match (line.sign, line.text.ends_with(b"\n")) {
                (Sign::Context, true) => '=',
                (Sign::Removed, true) => '-',
                (Sign::Added, true) => '+',
                (Sign::Context, false) => '~',
                (Sign::Removed, false) => '<',
                (Sign::Added, false) => '>',
            })
            .collect();
        words.push_str(&format!(" {place}{signs}"));
    }
    words
}

#[track_caller]
fn check(patch: &str, expected: &[&str]) {
    let patch = if patch.ends_with('\n') { patch.to_owned() } else { format!("{patch}\n") };
    let files = parse(patch.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(files.iter().map(summary).collect::<Vec<_>>(), expected);
}

#[track_caller]
fn check_refused(patch: &str, line: usize, problem: &Problem) {
    let error = parse(patch.as_bytes()).expect_err("refused");
    assert_eq!((error.line, &error.problem), (line, problem));
}

#[test]
fn what_git_prints_is_read() {
    check(
        "From: x\n\ndiff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ fn\n a\n-b\n+c\n@@ -9 +9,2 @@\n d\n+e\n\\ No newline at end of file\n-- \n2.47\n",
        &["x x own f> 1/1=-+ 9/9=>"],
    );
    check("diff --git a/x b/x\nnew file mode 100755\nindex 0..1\n", &["- x own >x"]);
    check(
        "diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+t\n\\ No newline\n",
        &["- x own >l 0/1>"],
    );
    check(
        "diff --git a/x b/x\ndeleted file mode 100644\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n",
        &["x - own f> 1/0-"],
    );
    check("diff --git a/x b/x\nold mode 100644\nnew mode 100755\n", &["x x own f>x"]);
    check(
        "diff --git a/x b/y\nsimilarity index 90%\nrename from x\nrename to y\n--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n",
        &["x y renamed > 1/1-+"],
    );
    check("diff --git a/x b/y\ncopy from x\ncopy to y\n", &["x y copied >"]);
    check("diff --git \"a/t\\tab\" \"b/t\\tab\"\nold mode 100755\nnew mode 100644\n", &["t\tab t\tab own x>f"]);
    check("diff --git a/x b/x\ndiff --git a/y b/y\nnew file mode 100644\n", &["- y own >f"]);
}

#[test]
fn what_others_send_is_read() {
    check("--- x\n+++ x\n@@ -1 +1 @@\n-a\n+b", &["x x own > 1/1-+"]);
    check("--- x.orig\t2024-01-01\n+++ x\t2024-01-02\n@@ -1 +1 @@\n-a\n+b\n", &["x x own > 1/1-+"]);
    check(
        "--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n a\n\n-b\n+c\n\n--- a/y\n+++ b/y\n@@\n-d\n",
        &["x x own > 1/1==-+", "y y own > ?-"],
    );
    check("--- a/x\n+++ b/x\n@@ -1,1 +1,1 @@\n a\n-b\n+c\n```\nthat is all\n", &["x x own > 1/1=-+"]);
    check("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\nand prose\n", &["x x own > 1/1-+"]);
    check("diff --git a/x b/x\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+a\n", &["- x own > 0/1+"]);
    check("--- a/x\r\n+++ b/x\r\n@@ -1 +1 @@\r\n-a\r\n+b\r\n", &["x x own > 1/1-+"]);
    check("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n--- a\n a\n", &["x x own > 1/1-="]);
}

#[test]
fn what_cannot_be_read_is_refused_by_its_line() {
    check_refused("hello\n", 1, &Problem::Empty);
    check_refused("*** Begin Patch\n*** Update File: x\n", 1, &Problem::OtherForm);
    check_refused("\n@@ -1 +1 @@\n-a\n+b\n", 2, &Problem::HunkWithoutFile);
    check_refused("--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\nno space\n-b\n", 5, &Problem::HunkLine);
    check_refused("--- a/x\n+++ b/x\n@@ -1;3 +1 @@\n a\n", 3, &Problem::Numbers);
    let no_change = Problem::NoChange("x".to_owned());
    check_refused("--- a/x\n+++ b/x\n@@ -1 +1 @@\n", 3, &no_change);
    // Cut off before its first change.
    check_refused("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,4 @@\n one\n two\n", 4, &no_change);
    check_refused("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n@@ -9,2 +9,3 @@\n one\n", 6, &no_change);
    check_refused(
        "diff --git a/i.png b/i.png\nindex 1..2\nGIT binary patch\n",
        1,
        &Problem::Binary("i.png".to_owned()),
    );
    check_refused(
        "diff --git a/m b/m\nindex 1..2 160000\n--- a/m\n+++ b/m\n@@ -1 +1 @@\n-a\n+b\n",
        1,
        &Problem::Submodule("m".to_owned()),
    );
    check_refused("diff --git a/x b/y\n--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n", 1, &Problem::Names);
    check_refused(
        "diff --git a/x b/x\nnew file mode 100644\n--- /dev/null\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
        1,
        &Problem::NewWithOld,
    );
    check_refused("diff --git a/x b/x\nnew file mode 10o644\n", 2, &Problem::Mode);
    check_refused("--- \"a/\\9\"\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", 1, &Problem::Name);
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(parse(&bytes));
    }

    #[test]
    fn no_lines_break_the_reader(lines in prop::collection::vec(prop::sample::select(vec![
        "diff --git a/x b/x\n", "diff --git \"a/x\" b/x y\n", "--- a/x\n", "+++ b/x\n", "--- /dev/null\n", "+++ /dev/null\n", "@@ -1,2 +3,4 @@\n",
        "@@ -0,0 +1 @@\n", "@@\n", "@@ -99999999999999999999 +1 @@\n", " a\n", "-a\n", "+a\n", "\\ No newline\n", "\n", "new file mode 100644\n",
        "deleted file mode 100644\n", "rename from x\n", "rename to y\n", "copy from x\n", "old mode 120000\n", "new mode 100755\n", "index 1..2 100644\n",
        "-- \n", "+", "similarity index 1%\n",
    ]), 0..20)) {
        drop(parse(lines.concat().as_bytes()));
    }
}
