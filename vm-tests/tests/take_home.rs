//! The whole way of a change: a checkout goes in, is worked on, and the patch makes of the host's checkout what is in the
//! guest. Three projects of different kinds, as [`Project`] makes them.

use std::path::Path;

use vm_tests::host_tools::{copy_tree, git, unpack};
use vm_tests::project::Project;
use vm_tests::trees::{Look, assert_same, tree};
use vm_tests::{Home, Workspace};

/// A user with a name in their git configuration, and a place for what a test makes.
fn user() -> (Home, tempfile::TempDir) {
    let home = Home::shared();
    let settings = "[user]\n\tname = Ada Lovelace\n\temail = ada@x.example\n";
    std::fs::write(home.path().join(".gitconfig"), settings).expect("our own directory");
    (home, tempfile::tempdir().expect("a temporary directory"))
}

/// What is in `/workspace`, laid out on the host by a way of its own.
fn lay_out(workspace: &Workspace<'_>, dir: &Path) {
    let archive = workspace.exec(&["tar", "-C", "/workspace", "--exclude=./.git", "-cf", "-", "."]).finish();
    unpack(&archive.assert_code(0).stdout, dir);
}

#[track_caller]
fn check_the_way_of_a_change(make: fn(std::path::PathBuf) -> Project) {
    let (home, place) = user();
    let project = make(place.path().join("project"));
    let (dir, at) = (&project.dir, |name: &str| place.path().join(name));
    copy_tree(dir, &at("by diff"));
    copy_tree(dir, &at("by export"));
    let status = git(dir, &["status", "--porcelain"]);
    // Looked at after git, which may write down in its index what it saw.
    let before = tree(place.path(), Look::Everything, &[]);

    let workspace = Workspace::seeded(&home, dir);
    assert_eq!(workspace.sh("git status --porcelain"), status, "the guest's git sees what the host's sees");
    assert_eq!(workspace.sh("git log --format=%H"), git(dir, &["log", "--format=%H"]));

    workspace.exec(project.check).finish().assert_code(1);
    let (file, wrong, right) = project.mistake;
    workspace.verb("file edit", &[file, "--old", wrong, "--new", right]).finish().assert_code(0);
    workspace.exec(project.check).finish().assert_code(0);
    assert_eq!(workspace.sh(project.changes), "");
    let dry = workspace.verb("patch apply", &["--patch-file", "-", "--dry-run"]).stdin(project.patch).finish();
    dry.assert_code(0);
    workspace.verb("patch apply", &["--patch-file", "-"]).stdin(project.patch).finish().assert_code(0);
    // It is in the tree now, so it does not go in once more; and nothing of it does.
    let again = workspace.verb("patch apply", &["--patch-file", "-"]).stdin(project.patch).finish();
    again.assert_code(1).assert_stderr_has("nothing was changed");

    let diff = workspace.verb("diff", &[]).finish();
    std::fs::write(at("diff.patch"), &diff.assert_code(0).stdout).expect("our own directory");
    let output = at("export.patch");
    let output = output.to_str().expect("text");
    workspace.verb("export", &["--as", "patch", "--output", output]).finish().assert_code(0);
    lay_out(&workspace, &at("guest"));
    let guests = tree(&at("guest"), Look::AsGit, project.ignored);
    for (copy, patch) in [("by diff", "../diff.patch"), ("by export", "../export.patch")] {
        git(&at(copy), &["apply", "--whitespace=nowarn", patch]);
        assert_same(&tree(&at(copy), Look::AsGit, project.ignored), &guests, copy);
    }
    for name in ["diff.patch", "export.patch", "guest", "by diff", "by export"] {
        let path = at(name);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("our own");
    }
    // What is left is what was there before, to the last inode.
    let touched = |line: &String| !line.starts_with("by ");
    let before = before.into_iter().filter(touched).collect();
    assert_same(&before, &tree(place.path(), Look::Everything, &[]), "the host's tree is as it was");

    let commit = "git add -A && git commit -qm 'From the guest' && git log -1 --format='%an <%ae> %s' && git status -s";
    assert_eq!(workspace.sh(commit), "Ada Lovelace <ada@x.example> From the guest\n");
    workspace.verb("reset", &[]).finish().assert_code(0);
    workspace.verb("diff", &[]).finish().assert_code(0).assert_stdout("");
    workspace.delete();
    home.assert_nothing_left();
}

#[test]
fn a_crate_comes_home_as_it_is_in_the_guest() {
    check_the_way_of_a_change(Project::of_rust);
}

#[test]
fn a_python_package_comes_home_as_it_is_in_the_guest() {
    check_the_way_of_a_change(Project::of_python);
}

#[test]
fn an_npm_package_comes_home_as_it_is_in_the_guest() {
    check_the_way_of_a_change(Project::of_npm);
}
