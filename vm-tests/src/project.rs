//! Projects of three kinds, small, each a git repository with work in it that is not committed: what a person has in front
//! of them when they ask for help. Each has a mistake that its own check finds.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::host_tools::git;

/// A project on the host, and what is done to it in a guest.
#[derive(Debug)]
pub struct Project {
    /// Where it is.
    pub dir: PathBuf,
    /// A command that finds the mistake.
    pub check: &'static [&'static str],
    /// File, wrong text, right text.
    pub mistake: (&'static str, &'static str, &'static str),
    /// A script that changes much else.
    pub changes: &'static str,
    /// A patch that fits what the script leaves.
    pub patch: &'static str,
    /// What git ignores of it.
    pub ignored: &'static [&'static str],
}

impl Project {
    /// A crate: a build directory with hard links, a script that can be executed, a link.
    #[must_use]
    pub fn of_rust(dir: PathBuf) -> Self {
        write(&dir, "Cargo.toml", "[package]\nname = \"tool\"\nversion = \"1.0.0\"\nedition = \"2024\"\n");
        write(&dir, "src/lib.rs", "//! Adds.\n\npub fn add(a: u32, b: u32) -> u32 {\n    a - b\n}\n");
        write(&dir, "src/main.rs", "fn main() {\n    println!(\"{}\", tool::add(2, 2));\n}\n");
        write(&dir, "src/old.rs", &"// A long line of a file that will be called otherwise.\n".repeat(40));
        write(&dir, "check.sh", "#!/bin/sh\ngrep -q 'a + b' src/lib.rs && echo added\n");
        executable(&dir, "check.sh");
        write(&dir, ".gitignore", "/target\n");
        symlink("src/lib.rs", dir.join("entry")).expect("a new directory");
        commit(&dir);
        write(&dir, "target/debug/tool", "built\n");
        fs::hard_link(dir.join("target/debug/tool"), dir.join("target/tool-1")).expect("a new directory");
        write(&dir, "src/main.rs", "fn main() {\n    // Not committed.\n    println!(\"{}\", tool::add(2, 2));\n}\n");
        Self {
            dir,
            check: &["./check.sh"],
            mistake: ("src/lib.rs", "a - b", "a + b"),
            changes: "mkdir -p target && echo rubbish > target/new\n\
                      git mv src/old.rs src/renamed.rs && echo '// And one line more.' >> src/renamed.rs\n\
                      : > src/empty.rs; printf 'no end' > src/endless.rs\n\
                      chmod -x check.sh; ln -sfn src/main.rs entry; git add -A >/dev/null\n",
            patch: "--- a/Cargo.toml\n+++ b/Cargo.toml\n@@ -1,4 +1,5 @@\n [package]\n name = \"tool\"\n-version = \"1.0.0\"\n\
                    +version = \"1.1.0\"\n+license = \"MIT\"\n edition = \"2024\"\n",
            ignored: &[".git", "target"],
        }
    }

    /// A package of Python: an empty file, a virtual environment, a binary file.
    #[must_use]
    pub fn of_python(dir: PathBuf) -> Self {
        write(&dir, "calc/__init__.py", "");
        write(&dir, "calc/core.py", "def add(a, b):\n    return a - b\n");
        write(
            &dir,
            "tests/test_core.py",
            "import unittest\nfrom calc.core import add\n\n\nclass Adds(unittest.TestCase):\n    def test(self):\n        \
             self.assertEqual(add(2, 2), 4)\n",
        );
        write_bytes(&dir, "calc/table.bin", &(0..=255).collect::<Vec<u8>>().repeat(20));
        write(&dir, ".gitignore", "__pycache__/\n.venv/\n");
        write(&dir, "setup.cfg", "[metadata]\nname = calc\nversion = 1");
        commit(&dir);
        write(&dir, ".venv/pyvenv.cfg", "home = /usr/bin\n");
        fs::create_dir_all(dir.join(".venv/bin")).expect("a new directory");
        symlink("/usr/bin/python3", dir.join(".venv/bin/python")).expect("a new directory");
        write(&dir, "notes for me.txt", "Not tracked.\n");
        fs::remove_file(dir.join("setup.cfg")).expect("it was just made");
        Self {
            dir,
            check: &["env", "PYTHONPATH=.", "python3", "-m", "unittest", "discover", "-s", "tests"],
            mistake: ("calc/core.py", "a - b", "a + b"),
            changes: "printf '\\000\\377changed' | dd of=calc/table.bin bs=1 seek=100 conv=notrunc 2>/dev/null\n\
                      cp calc/table.bin calc/second.bin; mv calc/__init__.py calc/other.py; : > calc/__init__.py\n\
                      rm 'notes for me.txt'; mkdir -p deep/er/and/deeper; echo x > deep/er/and/deeper/x\n\
                      printf '[metadata]\\nname = calc\\n' > setup.cfg; chmod +x tests/test_core.py\n\
                      ln -s ../calc tests/calc; ln -s /usr/bin/python3 python\n",
            patch: "diff --git a/calc/doc.txt b/calc/doc.txt\nnew file mode 100644\n--- /dev/null\n+++ b/calc/doc.txt\n\
                    @@ -0,0 +1,2 @@\n+How it adds.\n+Well.\n\\ No newline at end of file\n",
            ignored: &[".git", ".venv", "__pycache__"],
        }
    }

    /// A package of npm: dependencies with links to their programs, names that are no ASCII, a mode, lines that end as on
    /// Windows.
    #[must_use]
    pub fn of_npm(dir: PathBuf) -> Self {
        write(&dir, "package.json", "{\n  \"name\": \"größe\",\n  \"bin\": \"bin/größe.sh\"\n}\n");
        write(&dir, "bin/größe.sh", "#!/bin/sh\n. lib/sum.sh\nsum 2 2\n");
        executable(&dir, "bin/größe.sh");
        write(
            &dir,
            "lib/sum.sh",
            "sum() {\n  result=$(($1 - $2))\n  test \"$result\" = 4 || exit 1\n  echo $result\n}\n",
        );
        write(&dir, "README.md", "one\r\ntwo\r\nthree\r\n");
        write(&dir, "assets/logo.png", "\u{89}PNG\r\n\u{1a}\n\0\0\0");
        write(&dir, ".gitignore", "node_modules\n*.log\n");
        commit(&dir);
        write(&dir, "node_modules/tool/cli.js", "#!/usr/bin/env node\n");
        executable(&dir, "node_modules/tool/cli.js");
        fs::create_dir_all(dir.join("node_modules/.bin")).expect("a new directory");
        symlink("../tool/cli.js", dir.join("node_modules/.bin/tool")).expect("a new directory");
        write(&dir, "debug.log", "ignored\n");
        git(&dir, &["rm", "-q", "--cached", "README.md"]);
        Self {
            dir,
            check: &["sh", "bin/größe.sh"],
            mistake: ("lib/sum.sh", "$1 - $2", "$1 + $2"),
            changes: "printf 'one\\r\\n2\\r\\nthree' > README.md\n\
                      mv assets pictures; mv bin/größe.sh 'bin/two words.sh'; rm -r node_modules 2>/dev/null\n\
                      printf x > \"$(printf 'tab\\there')\"; printf y > \"$(printf 'back\\\\slash \"quoted\"')\"\n\
                      mkdir lib.d; mv lib/sum.sh lib.d/; rmdir lib; ln -s lib.d lib; echo noise > more.log\n",
            patch: "--- a/package.json\n+++ b/package.json\n@@ -1,4 +1,4 @@\n {\n   \"name\": \"größe\",\n\
                    -  \"bin\": \"bin/größe.sh\"\n+  \"bin\": \"bin/two words.sh\"\n }\n",
            ignored: &[".git", "node_modules", "debug.log", "more.log"],
        }
    }
}

fn commit(dir: &Path) {
    git(dir, &["init", "-q"]);
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-qm", "all of it"]);
}

fn write(dir: &Path, name: &str, text: &str) {
    write_bytes(dir, name, text.as_bytes());
}

fn write_bytes(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("it is below the directory")).expect("a new directory");
    fs::write(path, bytes).expect("a new directory");
}

fn executable(dir: &Path, name: &str) {
    fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o755)).expect("our own file");
}
