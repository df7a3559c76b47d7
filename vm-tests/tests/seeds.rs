//! What a directory of the host may hold, and what of it arrives in the guest. How each kind is read is tested where it is
//! read; here it is seen in a guest, through the overlay that `/workspace` is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use vm_tests::host_tools::{git, sh};
use vm_tests::trees::{Look, assert_same, tree};
use vm_tests::{Home, Workspace};

/// Every entry with its mode, names, size, time and target, and a hash of what is not large. Of a directory size and names
/// are the filesystem's own business.
const LISTING: &str = "find . -mindepth 1 \\( -type d -printf '%P d %m %T@\\0' -o -type l -printf '%P l %l\\0' \
                       -o -printf '%P %y %m %n %s %T@\\0' \\) | sort -z; \
                       find . -type f -size -64M -print0 | sort -z | xargs -0 sha256sum -z";

/// The superuser may read everything, unless it may not any more. Changes nothing for anyone else.
fn without_power_over_permissions() -> Vec<&'static str> {
    if rustix::process::geteuid().is_root() {
        let less = "-dac_override,-dac_read_search";
        vec!["setpriv", "--inh-caps", less, "--bounding-set", less]
    } else {
        Vec::new()
    }
}

/// All that can be in a directory and is no work of git.
fn everything(top: &Path) {
    let put = |name: &[u8], mode: u32| {
        let path = top.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().expect("it has one")).expect("a new directory");
        fs::write(&path, name).expect("a new directory");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("our own file");
        path
    };
    for name in [&b"new\nline"[..], b"\xff\xfe bytes", b"\x1b[31mred", b"..dots", b"-rf", b" blank ", &[b'n'; 255]] {
        put(name, 0o644);
    }
    put(b"setuid", 0o4755);
    put(b"closed", 0o600);
    let dated = File::options().write(true).open(put(b"dated", 0o444)).or_else(|_| File::open(top.join("dated")));
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(981_173_106, 123_456_789);
    dated.and_then(|file| file.set_modified(time)).expect("our own file");
    // A build directory with hard links, programs of node and a virtual environment.
    let built = put(b"target/debug/deps/tool-0a1b", 0o755);
    fs::hard_link(&built, top.join("target/debug/tool")).expect("a new directory");
    put(b"node_modules/tool/cli.js", 0o755);
    put(b"node_modules/.bin/.keep", 0o644);
    put(b"venv/lib/python3/site.py", 0o644);
    put(b"venv/bin/activate", 0o644);
    for (target, name) in [
        ("../tool/cli.js", "node_modules/.bin/tool"),
        ("/usr/bin/python3", "venv/bin/python3"),
        ("python3", "venv/bin/python"),
        ("lib", "venv/lib64"),
        ("../../../../etc/passwd", "outward"),
        ("/etc/passwd", "absolute"),
        ("not there", "dangling"),
        ("itself", "itself"),
        (".", "here"),
    ] {
        symlink(target, top.join(name)).expect("a new directory");
    }
    let large = File::create(top.join("large")).expect("a new directory");
    large.set_len(1 << 30).expect("files may have holes");
    large.write_all_at(b"end", (1 << 30) - 3).expect("there is room");
    fs::create_dir(top.join("empty")).expect("a new directory");
    fs::set_permissions(top.join("empty"), PermissionsExt::from_mode(0o1777)).expect("our own directory");
    fs::create_dir(top.join("read only")).expect("a new directory");
    put(b"read only/x", 0o400);
    fs::set_permissions(top.join("read only"), PermissionsExt::from_mode(0o555)).expect("our own directory");
}

#[test]
fn whatever_is_in_a_directory_arrives_as_it_is_or_is_named() {
    let (home, place) = (Home::shared(), tempfile::tempdir().expect("a temporary directory"));
    let top = place.path().join("seed");
    everything(&top);
    let expected = sh(&top, LISTING);
    // And what does not arrive.
    for name in [".env", "id_ed25519", "deploy/prod.key"] {
        fs::create_dir_all(top.join("deploy")).expect("our own directory");
        fs::write(top.join(name), "secret").expect("our own directory");
    }
    let socket = UnixListener::bind(top.join("socket")).expect("a short path");
    drop(sh(
        &top,
        "mkfifo pipe; mkdir -p locked/in; echo x > locked/in/x; echo x > unreadable; chmod 0 locked unreadable",
    ));
    let before = tree_as_it_may_be_read(&top);

    let call = home.pyro(&["workspace", "create", vm_tests::DEBIAN, "--seed-path"]);
    let call = call.args(&[top.to_str().expect("text"), "--seed-all", "--json"]);
    let created = call.through(&without_power_over_permissions()).finish();
    created.assert_code(0);
    for part in
        ["what looks secret", ".env", "id_ed25519", "deploy/prod.key", "--seed-secrets", "sockets", "cannot be read"]
    {
        created.assert_stderr_has(part);
    }
    assert_same(&before, &tree_as_it_may_be_read(&top), "the host's tree is as it was");
    let workspace = Workspace::known(&home, created.json()["id"].as_str().expect("an id"));
    let gone = "rmdir deploy && rmdir locked && ls -d .env id_* unreadable socket pipe 2>/dev/null; find . ! -uid 0";
    assert_eq!(workspace.sh(gone), "", "what was left out is not there, and all is root's");
    let listed = workspace.exec(&["sh", "-c", &format!("export LC_ALL=C; {LISTING}")]).finish();
    assert_same(&lines(&expected), &lines(&listed.assert_code(0).stdout), "what arrives is what was there");
    let looks = "tail -c 3 large; stat -c ' %s' large; \
                 test -x node_modules/.bin/tool && venv/bin/python -c 'print(1)'; head -n 1 outward";
    assert_eq!(workspace.sh(looks), "end 1073741824\n1\nroot:x:0:0:root:/root:/bin/bash\n");
    let taken = workspace.status()["disk_bytes"].as_u64().expect("a number");
    assert!(taken < 100 << 20, "a file with holes takes {taken} bytes");
    drop((socket, sh(&top, "chmod 700 locked")));
    workspace.delete();
    home.assert_nothing_left();
}

/// As lines for people, whatever is in the names.
fn lines(listing: &[u8]) -> std::collections::BTreeSet<String> {
    listing.split(|byte| *byte == 0).map(|line| line.escape_ascii().to_string()).collect()
}

/// The tree with all that may be read of it.
fn tree_as_it_may_be_read(top: &Path) -> std::collections::BTreeSet<String> {
    let listing = sh(top, "find . -printf '%P %y %m %n %s %T@ %C@ %i\\0' 2>/dev/null || true");
    lines(&listing)
}

#[test]
fn worktrees_and_submodules_are_whole_repositories_in_the_guest() {
    let home = Home::shared();
    let settings = "[user]\n\tname = Ada Lovelace\n\temail = ada@x.example\n";
    fs::write(home.path().join(".gitconfig"), settings).expect("our own directory");
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = |name: &str| {
        let path = place.path().join(name);
        fs::create_dir_all(&path).expect("a new directory");
        path
    };
    let (library, main) = (dir("library"), dir("main"));
    for (repository, file) in [(&library, "library.txt"), (&main, "main.txt")] {
        git(repository, &["init", "-q"]);
        fs::write(repository.join(file), "one\n").expect("our own directory");
        git(repository, &["add", "-A"]);
        git(repository, &["commit", "-qm", file]);
    }
    git(&main, &["submodule", "--quiet", "add", "../library", "inner"]);
    git(&main, &["commit", "-qm", "with a submodule"]);
    git(&main, &["worktree", "add", "-q", "-b", "side", "../side"]);
    let side = place.path().join("side");
    git(&side, &["submodule", "--quiet", "update", "--init"]);
    fs::write(side.join("main.txt"), "two\n").expect("our own directory");
    fs::write(side.join("inner/new.txt"), "new\n").expect("our own directory");
    let host = |words: &[&str]| git(&side, words);
    let status = [host(&["status", "--porcelain"]), host(&["-C", "inner", "status", "--porcelain"])].concat();
    let log = host(&["log", "--oneline", "--all"]);
    let before = tree(place.path(), Look::Everything, &[]);

    let workspace = Workspace::seeded(&home, &side);
    assert_eq!(workspace.sh("git status --porcelain; git -C inner status --porcelain"), status);
    assert_eq!(workspace.sh("git log --oneline --all; git branch --show-current"), format!("{log}side\n"));
    assert_eq!(
        workspace.sh("git submodule status | cut -c1; git fsck --strict 2>&1 | grep -v dangling || true"),
        " \n"
    );
    let commit = "git commit -qam 'In the guest' && git -C inner add -A && git -C inner commit -qm 'In the submodule' && \
                  git log -1 --format='%an <%ae>' && git -C inner log -1 --format='%an <%ae>' && git status --porcelain";
    assert_eq!(workspace.sh(commit), "Ada Lovelace <ada@x.example>\nAda Lovelace <ada@x.example>\n M inner\n");
    assert_same(&before, &tree(place.path(), Look::Everything, &[]), "the host's trees are as they were");
    workspace.delete();
    home.assert_nothing_left();
}
