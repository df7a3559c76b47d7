//! The tools that bring a directory up to date, and `sync push` of the engine, which calls them.

#[expect(dead_code, reason = "the engine reads the answers here")]
mod ground;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pyro_engine::store::crossing_record::Crossing;
use pyro_engine::workspace::guest_path::GuestPath;
use pyro_engine::workspace::looker::Looker;
use pyro_engine::workspace::seed::{GitUser, Reach, SeedRequest};
use pyro_engine::workspace::sync::{PushError, PushRequest, Pushed, push};
use pyro_engine::workspace::tool::{ToolError, ToolHost, ToolInput, ToolOutput};
use pyro_wire::sync::{Item, Receive, ReceiveLine};
use pyro_wire::{FaultKind, Tool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ground::{Ground, parse_lines};

/// A source and a guest.
struct Sides {
    source: tempfile::TempDir,
    ground: Ground,
    calls: std::sync::Mutex<Vec<(&'static str, usize)>>,
}

impl ToolHost for Sides {
    async fn call(&self, tool: Tool, input: Option<ToolInput<'_>>, output: ToolOutput<'_>) -> Result<(), ToolError> {
        let mut bytes = Vec::new();
        if let Some(input) = input {
            input.read_to_end(&mut bytes).await.map_err(|source| ToolError::Input { source })?;
        }
        self.calls.lock().expect("no test panicked").push((tool.name(), bytes.len()));
        let answer = self.ground.run(&tool, &bytes)?;
        output.write_all(&answer).await.map_err(|source| ToolError::Output { source })
    }

    async fn looker(&self) -> Result<Option<Looker>, ToolError> {
        Ok(None)
    }

    async fn cross(&self, _: Crossing) -> Result<(), ToolError> {
        Ok(())
    }
}

impl Sides {
    fn new() -> Self {
        let source = tempfile::tempdir().expect("a folder");
        fs::create_dir(source.path().join("tree")).expect("a folder");
        Self { source, ground: Ground::new(), calls: std::sync::Mutex::default() }
    }

    fn host(&self, path: &str) -> PathBuf {
        self.source.path().join("tree").join(path)
    }

    fn guest(&self, path: &str) -> PathBuf {
        self.ground.workspace(path)
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.host(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, content).expect("written");
    }

    fn request(&self) -> PushRequest {
        PushRequest {
            source: SeedRequest {
                source: self.host(""),
                all: false,
                secrets: false,
                git: GitUser::default(),
                reach: Reach::Anywhere,
                archive_bytes_max: 1 << 30,
                scratch_dir: self.source.path().to_owned(),
            },
            destination: GuestPath::workspace(),
            delete: false,
            called: "tree".to_owned(),
        }
    }

    fn push(&self) -> Pushed {
        self.push_as(self.request())
    }

    fn push_as(&self, request: PushRequest) -> Pushed {
        self.calls.lock().expect("no test panicked").clear();
        block_on(push(self, request, &|_| ())).expect("pushed")
    }

    fn called(&self) -> Vec<&'static str> {
        self.calls.lock().expect("no test panicked").iter().map(|(name, _)| *name).collect()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Whether both are the same: names, kinds, modes, times, content.
#[track_caller]
fn check_same(one: &Path, other: &Path) {
    let names = |dir: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(dir).expect("listed").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(one), names(other), "{}", one.display());
    for name in names(one) {
        let (one, other) = (one.join(&name), other.join(&name));
        let (left, right) = (fs::symlink_metadata(&one).expect("there"), fs::symlink_metadata(&other).expect("there"));
        assert_eq!(left.mode(), right.mode(), "{}", one.display());
        if left.is_dir() {
            check_same(&one, &other);
        } else if left.is_symlink() {
            assert_eq!(fs::read_link(&one).expect("read"), fs::read_link(&other).expect("read"));
        } else {
            assert_eq!(fs::read(&one).expect("read"), fs::read(&other).expect("read"), "{}", one.display());
            assert_eq!((left.mtime(), left.mtime_nsec()), (right.mtime(), right.mtime_nsec()), "{}", one.display());
        }
    }
}

fn everything() -> Sides {
    let sides = Sides::new();
    sides.put("a", "a\n");
    sides.put("dir/b", "b".repeat(300_000));
    sides.put("dir/run", "#!/bin/sh\n");
    fs::set_permissions(sides.host("dir/run"), PermissionsExt::from_mode(0o4755)).expect("permitted");
    fs::hard_link(sides.host("a"), sides.host("dir/hard")).expect("linked");
    symlink("../nowhere", sides.host("dir/link")).expect("linked");
    fs::create_dir(sides.host("empty")).expect("made");
    fs::set_permissions(sides.host("empty"), PermissionsExt::from_mode(0o700)).expect("permitted");
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\n\"odd");
    fs::write(sides.host("").join(odd), "odd").expect("written");
    sides
}

#[test]
fn everything_arrives_as_it_is_and_is_not_sent_twice() {
    let sides = everything();
    let pushed = sides.push();
    check_same(&sides.host(""), &sides.guest(""));
    assert_eq!((pushed.created, pushed.replaced, pushed.same, pushed.failed_count), (8, 0, 0, 0));
    assert_eq!(pushed.sent_bytes, 2 + 300_000 + 10 + 3);
    let inode = |path: &str| fs::metadata(sides.guest(path)).expect("there").ino();
    assert_eq!(inode("a"), inode("dir/hard"));

    let again = sides.push();
    assert_eq!((again.created, again.replaced, again.same, again.sent_bytes), (0, 0, 8, 0));
    assert_eq!(sides.called(), ["inventory"]);
    assert!(fs::read_dir(sides.guest("dir")).expect("listed").count() == 4, "nothing is left behind");
}

#[test]
fn only_what_differs_is_sent() {
    let sides = everything();
    sides.push();
    sides.put("dir/b", "c".repeat(300_000));
    fs::set_permissions(sides.host("dir/run"), PermissionsExt::from_mode(0o644)).expect("permitted");
    fs::set_permissions(sides.host("empty"), PermissionsExt::from_mode(0o755)).expect("permitted");
    // Another time alone is no difference.
    let file = fs::File::options().write(true).open(sides.host("a")).expect("opened");
    file.set_modified(SystemTime::now() - Duration::from_secs(1000)).expect("set");
    let pushed = sides.push();
    assert_eq!((pushed.created, pushed.replaced, pushed.sent_bytes), (0, 3, 300_000));
    assert_eq!(fs::metadata(sides.guest("dir/run")).expect("there").mode() & 0o7777, 0o644);
    let told: Vec<_> = pushed.overwritten.iter().map(|gone| (&gone.path[..], gone.guest_change)).collect();
    assert_eq!(told, [(&b"dir/b"[..], false)]);
}

#[test]
fn what_the_guest_had_changed_is_told_when_it_is_overwritten() {
    let sides = Sides::new();
    for path in ["same", "edited", "again"] {
        sides.put(path, "old");
        fs::write(sides.ground.path("lower").join(path), "old").expect("written");
        fs::copy(sides.host(path), sides.guest(path)).expect("copied");
    }
    // As overlayfs keeps what was written in the guest.
    for path in ["edited", "made"] {
        fs::write(sides.guest(path), "by the guest").expect("written");
        fs::write(sides.ground.path("upper").join(path), "by the guest").expect("written");
    }
    for path in ["same", "edited", "made", "again"] {
        sides.put(path, "by the host");
    }
    let told = |pushed: &Pushed| {
        let told =
            pushed.overwritten.iter().map(|gone| (String::from_utf8_lossy(&gone.path).into_owned(), gone.guest_change));
        told.collect::<Vec<_>>()
    };
    let expected =
        [("again", false), ("edited", true), ("made", true), ("same", false)].map(|(path, is)| (path.to_owned(), is));
    let pushed = sides.push();
    assert_eq!((told(&pushed), pushed.guest_changes), (expected.to_vec(), 2));

    // What a push had put is no change of the guest's, until somebody writes to it.
    fs::write(sides.ground.path("upper").join("again"), "by the host").expect("written");
    sides.put("again", "by the host, again");
    assert_eq!(told(&sides.push()), [("again".to_owned(), false)]);
    fs::write(sides.guest("again"), "by the guest").expect("written");
    sides.put("again", "by the host, at last");
    let pushed = sides.push();
    // A file system without attributes cannot tell the two apart, and says so in the first case.
    assert_eq!(told(&pushed), [("again".to_owned(), true)]);
}

#[test]
fn kinds_change_and_full_directories_stay() {
    let sides = Sides::new();
    for path in ["file-to-dir", "link-to-dir", "dir-to-file", "full-to-file", "dir-to-link"] {
        if path.ends_with("-to-dir") {
            sides.put(&format!("{path}/x"), "x");
        } else if path.ends_with("-to-file") {
            sides.put(path, "x");
        }
    }
    symlink("a", sides.host("dir-to-link")).expect("linked");
    fs::create_dir(sides.ground.path("root/etc")).expect("made");
    fs::write(sides.guest("file-to-dir"), "").expect("written");
    symlink("/etc", sides.guest("link-to-dir")).expect("linked");
    fs::create_dir(sides.guest("dir-to-file")).expect("made");
    fs::create_dir(sides.guest("dir-to-link")).expect("made");
    sides.ground.put("full-to-file/kept", "by the guest");
    let pushed = sides.push();
    assert_eq!(pushed.failed.iter().map(|failed| &failed.path[..]).collect::<Vec<_>>(), [b"full-to-file"]);
    assert_eq!(pushed.overwritten_count, 4);
    assert!(fs::read_dir(sides.ground.path("root/etc")).expect("listed").next().is_none(), "a link was followed");
    assert_eq!(fs::read(sides.guest("full-to-file/kept")).expect("read"), b"by the guest");

    let pushed = sides.push_as(PushRequest { delete: true, ..sides.request() });
    assert_eq!(pushed.failed, []);
    check_same(&sides.host(""), &sides.guest(""));
}

#[test]
fn what_the_source_lacks_goes_only_when_asked() {
    let sides = everything();
    sides.put(".gitignore", "*.log\nnode_modules/\n");
    sides.put("ignored.log", "of the host");
    sides.push();
    for path in [
        "surplus",
        "gone/deep/x",
        "gone/deep/y.log",
        "ignored.log",
        "node_modules/m/index.js",
        ".env",
        "clone/.git/HEAD",
        "clone/x",
    ] {
        sides.ground.put(path, "by the guest");
    }
    fs::remove_file(sides.host("dir/b")).expect("removed");
    assert_eq!(sides.push().removed, 0);

    let pushed = sides.push_as(PushRequest { delete: true, ..sides.request() });
    let gone: Vec<_> = pushed.overwritten.iter().map(|gone| String::from_utf8_lossy(&gone.path).into_owned()).collect();
    assert_eq!(gone, ["surplus", "gone/deep/x", "dir/b"]);
    for path in ["gone/deep/y.log", "ignored.log", "node_modules/m/index.js", ".env", "clone/.git/HEAD", "clone/x"] {
        assert_eq!(fs::read(sides.guest(path)).expect(path), b"by the guest");
    }
    let mut all = PushRequest { delete: true, ..sides.request() };
    all.source.all = true;
    sides.push_as(all);
    assert!(!sides.guest("gone").exists() && !sides.guest("node_modules").exists() && sides.guest(".env").exists());
    assert_eq!(fs::read(sides.guest("ignored.log")).expect("read"), b"of the host");

    let root = PushRequest { delete: true, destination: GuestPath::new("/.//").expect("a path"), ..sides.request() };
    assert!(matches!(block_on(push(&sides, root, &|_| ())), Err(PushError::RemovesSystem)));
}

#[test]
fn a_repository_at_work_in_the_guest_is_left_alone() {
    let sides = Sides::new();
    for path in ["HEAD", "config", "objects/x", "refs/heads/main"] {
        sides.put(&format!(".git/{path}"), "of the host");
        sides.put(&format!("sub/.git/{path}"), "of the host");
    }
    sides.ground.put(".git/HEAD", "of the guest");
    let pushed = sides.push();
    assert_eq!(pushed.repositories_kept, [b".git"]);
    assert_eq!(fs::read(sides.guest(".git/HEAD")).expect("read"), b"of the guest");
    assert!(!sides.guest(".git/objects").exists());
    assert_eq!(fs::read(sides.guest("sub/.git/HEAD")).expect("read"), b"of the host");
}

#[test]
fn another_destination_is_made_and_an_archive_is_a_source() {
    let sides = everything();
    let mut request = sides.request();
    request.destination = GuestPath::new("/srv/deep/app").expect("a path");
    let pushed = sides.push_as(request);
    assert_eq!(pushed.failed_count, 0);
    check_same(&sides.host(""), &sides.ground.path("root/srv/deep/app"));
}

#[test]
fn input_that_breaks_off_is_a_fault_and_what_was_put_stays() {
    let sides = Sides::new();
    let tool = Tool::Receive(Receive { path: "/workspace".into() });
    let line = |item: &Item| [&serde_json::to_vec(item).expect("serialises")[..], b"\n"].concat();
    let file =
        |path: &str, size_bytes| line(&Item::File { path: path.into(), mode: 0o644, modified_unix_ns: 0, size_bytes });
    let input = [&file("whole", 1)[..], b"x+", &file("cut", 100), b"only so much"].concat();
    let fault = sides.ground.run(&tool, &input).expect_err("refused");
    assert_eq!(fault.kind, FaultKind::InvalidArgument);
    let names: Vec<_> =
        fs::read_dir(sides.guest("")).expect("listed").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["whole"]);
    for input in [&b"{}\n"[..], b"\"end\"", b"", &file("x", 0), &[&file("x", 0)[..], b"?"].concat()] {
        assert_eq!(sides.ground.run(&tool, input).expect_err("refused").kind, FaultKind::InvalidArgument);
    }
}

#[test]
fn paths_that_lead_out_are_refused_one_by_one() {
    let sides = Sides::new();
    fs::create_dir(sides.ground.path("root/etc")).expect("made");
    symlink("/etc", sides.guest("link")).expect("linked");
    let tool = Tool::Receive(Receive { path: "/workspace".into() });
    let mut input = Vec::new();
    let paths = ["../x", "link/x", "/etc/x", "..", "", "a/../../x"];
    for path in paths {
        let item = Item::File { path: path.into(), mode: 0o644, modified_unix_ns: 0, size_bytes: 1 };
        input.extend(serde_json::to_vec(&item).expect("serialises"));
        input.extend(b"\nx+");
    }
    input.extend(b"{\"mode\":{\"path\":\"link\",\"mode\":0}}\n\"end\"\n");
    let lines: Vec<ReceiveLine> = parse_lines(&sides.ground.run(&tool, &input).expect("went on"));
    let failed = lines.iter().filter(|line| matches!(line, ReceiveLine::Failed { .. })).count();
    assert_eq!(failed, paths.len() + 1);
    assert!(fs::read_dir(sides.ground.path("root/etc")).expect("listed").next().is_none());
    assert!(!sides.ground.path("root/x").exists());
}
