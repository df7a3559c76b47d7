//! Directories as seeds: what is taken, how it is kept, and the disk that it ends up on.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use super::fixture::{Place, noted, paths};
use super::notes::About;
use super::tree::SeedKind;
use super::{SeedError, survey, write_disk};

fn plain() -> Place {
    let place = Place::new();
    place.write("seed/a", "a\n");
    place.write("seed/dir/.gitignore", "*.o\n");
    place.write("seed/dir/x.o", "");
    place.write("seed/dir/x.c", "");
    place.write("seed/x.o", "");
    place
}

#[test]
fn outside_of_git_its_rules_count_too() {
    let place = plain();
    assert_eq!(paths(&place.survey("seed")), ["a", "dir", "dir/.gitignore", "dir/x.c", "x.o"]);
    let all = survey(&super::SeedRequest { all: true, ..place.request("seed") }).unwrap();
    assert_eq!(paths(&all), ["a", "dir", "dir/.gitignore", "dir/x.c", "dir/x.o", "x.o"]);
}

#[test]
fn secrets_stay_away_unless_asked_for() {
    let place = plain();
    for name in [".env", "dir/.env.local", "dir/.env.example", "server.pem", "id_rsa", ".npmrc"] {
        place.write(&format!("seed/{name}"), "x=1\n");
    }
    place.write("seed/ca.pem", "-----BEGIN CERTIFICATE-----\n");
    let tree = place.survey("seed");
    let left_out: Vec<_> = noted(&tree, About::SecretLeftOut).into_iter().map(|(path, _)| path).collect();
    assert_eq!(left_out, [".env", "dir/.env.local", "id_rsa", "server.pem"]);
    assert!(paths(&tree).contains(&"ca.pem".to_owned()) && paths(&tree).contains(&".npmrc".to_owned()));
    assert!(!paths(&tree).contains(&".env".to_owned()));
    assert!(tree.leaves_out(b".env", false) && !tree.leaves_out(b"a", false));

    let tree = survey(&super::SeedRequest { secrets: true, ..place.request("seed") }).unwrap();
    assert!(paths(&tree).contains(&".env".to_owned()));
    assert_eq!(tree.notes.count(About::SecretLeftOut), 0);
    assert_eq!(tree.notes.count(About::SecretKept), 4);
}

#[test]
fn whatever_is_no_file_directory_or_link_is_noted() {
    let place = plain();
    let socket = std::os::unix::net::UnixListener::bind(place.path("seed/socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path("seed/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let tree = place.survey("seed");
    let expected = [("pipe", "a named pipe"), ("socket", "a socket")].map(|(path, what)| (path.into(), what.into()));
    assert_eq!(noted(&tree, About::SpecialLeftOut), expected);
    drop(socket);
}

/// Entries of every kind that a seed may have.
fn everything() -> Place {
    let place = plain();
    let path = |name: &str| place.path("seed").join(name);
    fs::hard_link(path("a"), path("dir/hard")).unwrap();
    symlink("/nowhere/at all", path("absolute")).unwrap();
    symlink("../../..", path("outward")).unwrap();
    symlink("x".repeat(300), path("long")).unwrap();
    fs::create_dir(path("empty")).unwrap();
    fs::set_permissions(path("empty"), PermissionsExt::from_mode(0o1700)).unwrap();
    fs::set_permissions(path("dir/x.c"), PermissionsExt::from_mode(0o4751)).unwrap();
    fs::write(place.path("seed").join(std::ffi::OsStr::from_bytes(b"\xff\nname")), "odd").unwrap();
    let sparse = File::create(path("sparse")).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_all_at(b"end", (20 << 20) - 3).unwrap();
    place
}

#[test]
fn the_disk_holds_what_the_directory_held() {
    let place = everything();
    let before = fs::metadata(place.path("seed/a")).unwrap();
    let tree = place.survey("seed");
    let image = place.path("disk");
    let summary = write_disk(&tree, 1, File::create_new(&image).unwrap(), &|_| ()).unwrap();
    assert_eq!((summary.files, summary.directories, summary.symlinks), (7, 2, 3));
    assert_eq!(summary.bytes, (20 << 20) + 9);
    let metadata = fs::metadata(&image).unwrap();
    assert!(metadata.len() == 1 << 30 && metadata.blocks() * 512 < 16 << 20, "holes were filled");
    check_clean(&image);

    let mut disk = arcbox_ext4::Reader::new(&image).unwrap();
    let base = "/workspace/lower";
    assert_eq!(disk.read_file(&format!("{base}/a"), 0, None).unwrap(), b"a\n");
    assert_eq!(disk.read_file(&format!("{base}/sparse"), (20 << 20) - 4, None).unwrap(), b"\0end");
    let stat = |disk: &mut arcbox_ext4::Reader, name: &str| disk.stat_no_follow(&format!("{base}/{name}")).unwrap();
    let (number, inode) = stat(&mut disk, "a");
    assert_eq!(stat(&mut disk, "dir/hard").0, number);
    assert_eq!((inode.links_count, inode.uid_full(), inode.gid_full()), (2, 0, 0));
    assert_eq!(u64::from(inode.mtime), before.mtime() as u64);
    assert_eq!(i64::from(inode.mtime_extra >> 2), before.mtime_nsec());
    assert_eq!(stat(&mut disk, "dir/x.c").1.mode & 0o7777, 0o4751);
    assert_eq!(stat(&mut disk, "empty").1.mode & 0o7777, 0o1700);
    assert!(stat(&mut disk, "outward").1.is_link() && stat(&mut disk, "long").1.is_link());
    assert!(disk.list_dir("/workspace/upper").unwrap().is_empty());
}

#[test]
fn the_digest_is_that_of_the_tree() {
    let place = everything();
    let digest = |name: &str| {
        let image = place.path(name);
        write_disk(&place.survey("seed"), 1, File::create_new(image).unwrap(), &|_| ()).unwrap().digest
    };
    let first = digest("one");
    assert_eq!(digest("two"), first);
    place.write("seed/a", "b\n");
    assert_ne!(digest("three"), first);
}

#[test]
fn what_vanishes_or_changes_meanwhile_is_noted() {
    let place = plain();
    place.write("seed/grown", "12");
    place.write("seed/gone", "12");
    let tree = place.survey("seed");
    fs::remove_file(place.path("seed/gone")).unwrap();
    place.write("seed/grown", "1234");
    symlink("/etc/passwd", place.path("seed/other")).unwrap();
    fs::rename(place.path("seed/other"), place.path("seed/a")).unwrap();
    let image = place.path("disk");
    let summary = write_disk(&tree, 1, File::create_new(&image).unwrap(), &|_| ()).unwrap();
    let groups: Vec<_> = summary.notes.groups().map(|(about, count, _)| (about, count)).collect();
    assert_eq!(groups, [(About::Unreadable, 2)]);
    check_clean(&image);
    let mut disk = arcbox_ext4::Reader::new(&image).unwrap();
    assert_eq!(disk.read_file("/workspace/lower/grown", 0, None).unwrap(), b"1234");
    assert!(!disk.exists("/workspace/lower/a") && !disk.exists("/workspace/lower/gone"));
}

#[test]
fn a_seed_that_does_not_fit_is_refused_with_figures() {
    let place = plain();
    File::create(place.path("seed/big")).unwrap().set_len(2 << 30).unwrap();
    let error =
        write_disk(&place.survey("seed"), 1, File::create_new(place.path("disk")).unwrap(), &|_| ()).unwrap_err();
    let SeedError::DoesNotFit { needed_bytes, free_bytes, disk_gib: 1 } = error else { panic!("{error}") };
    assert!(needed_bytes > 2 << 30 && free_bytes < 1 << 30);
}

#[test]
fn a_source_that_is_not_there_or_no_seed_is_refused() {
    let place = plain();
    assert!(matches!(survey(&place.request("missing")), Err(SeedError::Source { .. })));
    assert!(matches!(survey(&place.request("seed/a")), Err(SeedError::UnknownKind { .. })));
}

#[test]
fn a_tree_without_permission_is_empty_and_noted() {
    let place = plain();
    place.write("seed/closed/x", "");
    fs::set_permissions(place.path("seed/closed"), PermissionsExt::from_mode(0o000)).unwrap();
    let tree = place.survey("seed");
    fs::set_permissions(place.path("seed/closed"), PermissionsExt::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        // The superuser may look into everything.
        assert!(paths(&tree).contains(&"closed/x".to_owned()));
    } else {
        assert_eq!(noted(&tree, About::Unreadable).len(), 1);
        assert!(paths(&tree).contains(&"closed".to_owned()));
    }
}

#[test]
fn directories_without_end_are_cut_and_noted() {
    let place = Place::new();
    let mut path = place.path("seed");
    fs::create_dir(&path).unwrap();
    for _ in 0..250 {
        path.push("d");
        fs::create_dir(&path).unwrap();
    }
    let tree = place.survey("seed");
    assert_eq!(tree.notes.count(About::TooDeep), 1);
    assert!(tree.entries.iter().all(|entry| entry.kind == SeedKind::Directory));
}

/// Fails unless e2fsck finds nothing to say, where the host has it.
fn check_clean(image: &std::path::Path) {
    #[expect(clippy::disallowed_methods, reason = "a test asks the host's own checker")]
    let mut command = std::process::Command::new("e2fsck");
    match command.arg("-fn").arg(image).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}
