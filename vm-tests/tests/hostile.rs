//! A guest that means harm: what it puts into its files, and what of that reaches the host by export, diff and a terminal.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use vm_tests::trees::{Look, assert_same, tree};
use vm_tests::{Home, Workspace};

/// Everything that the root of a guest can put into a directory.
const TRAPS: &str = "mkdir -p trap/deep && cd trap && echo harmless > file\n\
    ln -s /etc/passwd absolute; ln -s ../../../../../../etc/passwd outward; ln -s ../.. up; ln -s deep/../../.. through\n\
    ln -s file inward; ln -s ../file deep/inward; ln -s deep door\n\
    cp /bin/true setuid; chmod 6755 setuid; mkdir -m 7777 open\n\
    mknod disk b 7 0; mknod memory c 1 1; mkfifo pipe; python3 -c 'import socket; socket.socket(1).bind(\"socket\")'\n\
    touch -- \"$(printf '\\033]0;title\\007\\033[2J')\" \"$(printf 'line\\nbreak')\" \"$(printf '\\377\\376')\" '..' '...' '-rf ~'\n\
    touch '..\\..\\windows' 'CON' \"$(printf 'right\\342\\200\\256left')\"; ln file hard\n\
    chown 12345:54321 hard\n";

/// A directory that is now one, now a link out of the workspace.
const SWAPPING: &str = "mkdir -p swap/real swap/away && echo mine > swap/real/passwd && echo begun\n\
    while :; do mv -T swap/real swap/place; mv -T swap/place swap/real; ln -s /etc swap/place; rm swap/place; done";

#[test]
fn a_hostile_tree_touches_nothing_but_the_output() {
    let home = Home::shared();
    let place = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(place.path().join("bystander"), "untouched").expect("our own directory");
    std::fs::write(place.path().join("passwd"), "untouched").expect("our own directory");
    let before = tree(place.path(), Look::Everything, &[]);
    let workspace = Workspace::create(&home, &[]);
    assert_eq!(workspace.sh(TRAPS), "");

    let output = place.path().join("out");
    let to = |path: &Path| path.to_str().expect("text").to_owned();
    let outcome = workspace.verb("export", &["trap", "--output", &to(&output)]).finish();
    outcome.assert_code(0);
    for part in ["absolute: left out: a link that leads out, to /etc/passwd", "disk: left out: a device"] {
        outcome.assert_stderr_has(part);
    }
    assert!(!outcome.stderr.contains(&0x1b), "an escape reached the terminal: {outcome:?}");
    for name in ["absolute", "outward", "up", "through", "disk", "memory", "pipe", "socket"] {
        assert!(output.join(name).symlink_metadata().is_err(), "{name} is there");
    }
    for name in ["file", "hard", "setuid", "open", "...", "-rf ~", "CON"] {
        let metadata = output.join(name).symlink_metadata().unwrap_or_else(|_| panic!("{name} is not there"));
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        assert_eq!((metadata.uid(), metadata.gid()), me, "{name}");
        assert_eq!(metadata.permissions().mode() & 0o7000, 0, "{name}");
    }
    for (name, target) in [("inward", "file"), ("deep/inward", "../file"), ("door", "deep")] {
        assert_eq!(std::fs::read_link(output.join(name)).expect("a link"), Path::new(target));
    }
    std::fs::remove_dir_all(&output).expect("our own");

    // Whatever is swapped under an export, only what was in the directory comes out of it.
    let mut swapping = workspace.exec(&["sh", "-c", SWAPPING]).start();
    swapping.wait_for_stdout("begun\n");
    for _ in 0..15 {
        // What changes under it may make it fail, in words.
        let outcome = workspace.verb("export", &["swap", "--output", &to(&output), "--force"]).finish();
        assert!(matches!(outcome.code, Some(0 | 1)), "{outcome:?}");
        for name in ["real", "place", "away"] {
            let entry = output.join(name);
            assert!(!entry.is_symlink(), "a link out was made: {}", entry.display());
            if let Ok(text) = std::fs::read_to_string(entry.join("passwd")) {
                assert_eq!(text, "mine\n", "{name}");
            }
        }
    }
    drop(swapping);
    std::fs::remove_dir_all(&output).expect("at least one export succeeded");
    // Nor does a diff show what a terminal would obey; `git apply` takes it nevertheless.
    let diff = workspace.verb("diff", &["--name-status"]).finish();
    assert!(diff.code == Some(0) && !diff.stdout.contains(&0x1b), "{diff:?}");
    let status = workspace.verb("file list", &["trap"]).finish();
    assert!(status.code == Some(0) && !status.stdout.contains(&0x1b), "{status:?}");
    assert_same(&before, &tree(place.path(), Look::Everything, &["out"]), "nothing else was touched");
    workspace.delete();
    home.assert_nothing_left();
}
