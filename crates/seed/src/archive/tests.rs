//! Archives as people make them, and as those make them who want out.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use proptest::prelude::*;
use tar::{EntryType, Header};

use super::super::content::Contents;
use super::super::fixture::{Place, noted, paths};
use super::super::notes::About;
use super::super::tree::{SeedKind, SeedTree};
use super::super::{SeedError, SeedRequest, survey};

/// An entry with any name: the crate's own builder refuses what tests want.
fn entry(name: &[u8], kind: EntryType, link: &[u8], content: &[u8]) -> Vec<u8> {
    sized(name, kind, link, content.len() as u64, content)
}

fn sized(name: &[u8], kind: EntryType, link: &[u8], size_bytes: u64, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_mode(0o640);
    header.set_uid(1000);
    header.set_gid(1000);
    header.set_mtime(1_700_000_000);
    header.set_size(size_bytes);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    entry(name, EntryType::Regular, b"", content)
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut len = rest.len() + 1;
        while len != rest.len() + len.to_string().len() {
            len += 1;
        }
        text.extend(format!("{len}{rest}").bytes());
    }
    entry(b"pax", EntryType::XHeader, b"", &text)
}

fn whole(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn surveyed(place: &Place, bytes: &[u8]) -> Result<SeedTree, SeedError> {
    place.write("archive", bytes);
    survey(&SeedRequest { archive_bytes_max: 64 << 20, ..place.request("archive") })
}

/// The paths in a tree with their content, or what they are.
fn told(tree: &SeedTree) -> Vec<(String, String)> {
    let mut contents = Contents::new(tree);
    let mut told = Vec::new();
    for entry in &tree.entries {
        let what = match &entry.kind {
            SeedKind::Directory => "directory".to_owned(),
            SeedKind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
            SeedKind::HardLink(first) => format!("= {}", String::from_utf8_lossy(&tree.entries[*first].path)),
            SeedKind::File { size_bytes, content } => {
                let mut text = String::new();
                contents.open(content, *size_bytes).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        };
        told.push((String::from_utf8_lossy(&entry.path).into_owned(), what));
    }
    told
}

#[track_caller]
fn check(entries: &[Vec<u8>], expected: &[(&str, &str)], refused: &[&str]) {
    let place = Place::new();
    let plain = whole(entries);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for bytes in [plain, gzip.finish().unwrap()] {
        let tree = surveyed(&place, &bytes).unwrap();
        let told = told(&tree);
        let told: Vec<_> = told.iter().map(|(path, what)| (path.as_str(), what.as_str())).collect();
        assert_eq!(told, expected);
        let notes = noted(&tree, About::EntryRefused);
        assert_eq!(notes.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), refused);
    }
}

#[test]
fn names_that_lead_out_are_left_out() {
    check(
        &[
            file(b"../a", b"1"),
            file(b"x/../../a", b"2"),
            file(b"/etc/passwd", b"3"),
            file(b"./ok//fine", b"4"),
            entry(b"..", EntryType::Directory, b"", b""),
            entry(b"hard", EntryType::Link, b"../a", b""),
        ],
        &[("etc", "directory"), ("etc/passwd", "3"), ("ok", "directory"), ("ok/fine", "4")],
        &["../a", "x/../../a", "..", "hard"],
    );
}

#[test]
fn links_are_kept_and_never_followed() {
    check(
        &[
            entry(b"out", EntryType::Symlink, b"/etc", b""),
            file(b"out/passwd", b"x"),
            entry(b"dangling", EntryType::Symlink, b"../../..", b""),
            entry(b"empty", EntryType::Symlink, b"", b""),
            entry(b"early", EntryType::Link, b"later", b""),
            file(b"later", b"y"),
            entry(b"again", EntryType::Link, b"./later", b""),
        ],
        &[("again", "y"), ("dangling", "-> ../../.."), ("later", "= again"), ("out", "-> /etc")],
        &["out/passwd", "empty", "early"],
    );
}

#[test]
fn of_one_name_the_last_counts() {
    check(
        &[
            file(b"a", b"old"),
            entry(b"link", EntryType::Link, b"a", b""),
            file(b"a", b"new"),
            entry(b"b", EntryType::Directory, b"", b""),
            file(b"b", b"no directory any more"),
            file(b"c", b"x"),
            entry(b"c", EntryType::Directory, b"", b""),
            file(b"d/x", b"x"),
            file(b"d", b"the directory is not empty"),
        ],
        &[
            ("a", "new"),
            ("b", "no directory any more"),
            ("c", "directory"),
            ("d", "directory"),
            ("d/x", "x"),
            ("link", "old"),
        ],
        &["d"],
    );
}

#[test]
fn long_names_and_fine_times_are_read() {
    let long = "n".repeat(200);
    let name = format!("dir/{long}");
    let place = Place::new();
    let entries = [
        entry(b"././@LongLink", EntryType::GNULongName, b"", format!("{name}\0").as_bytes()),
        file(b"short", b"gnu"),
        pax(&[("path", "dir/pax"), ("mtime", "1600000000.25"), ("SCHILY.xattr.user.x", "y")]),
        file(b"short", b"pax"),
        pax(&[("path", "before"), ("mtime", "-1.5")]),
        file(b"short", b"x"),
        entry(b"pax_global_header", EntryType::XGlobalHeader, b"", b"12 comment=x\n"),
    ];
    let tree = surveyed(&place, &whole(&entries)).unwrap();
    assert_eq!(paths(&tree), ["before", "dir", &name, "dir/pax"]);
    let times: Vec<_> = tree.entries.iter().map(|entry| entry.attributes.mtime).collect();
    assert_eq!((times[0].seconds, times[0].nanoseconds), (-2, 500_000_000));
    assert_eq!((times[3].seconds, times[3].nanoseconds), (1_600_000_000, 250_000_000));
    assert_eq!(tree.entries[3].attributes.mode, 0o640);
}

#[test]
fn devices_are_left_out_and_secrets_kept_and_both_named() {
    let place = Place::new();
    let entries = [
        entry(b"pipe", EntryType::Fifo, b"", b""),
        entry(b"disk", EntryType::Block, b"", b""),
        entry(b"odd", EntryType::new(b'?'), b"", b""),
        file(b"top/.env", b"TOKEN=1"),
    ];
    let tree = surveyed(&place, &whole(&entries)).unwrap();
    assert_eq!(paths(&tree), ["top", "top/.env"]);
    assert_eq!(tree.notes.count(About::SpecialLeftOut), 2);
    assert_eq!(noted(&tree, About::SecretKept)[0].0, "top/.env");
    assert_eq!(noted(&tree, About::EntryRefused)[0].0, "odd");
}

#[test]
fn what_unpacks_to_too_much_is_refused() {
    let place = Place::new();
    let is_too_large = |bytes: &[u8]| matches!(surveyed(&place, bytes), Err(SeedError::ArchiveTooLarge { .. }));
    // Sizes that are only claimed.
    assert!(is_too_large(&whole(&[sized(b"a", EntryType::Regular, b"", 1 << 33, b"")])));
    let sparse = pax(&[("GNU.sparse.size", "9999999999999"), ("GNU.sparse.map", "0,1")]);
    assert!(is_too_large(&whole(&[sparse, file(b"a", b"x")])));
    // And a real bomb, in an entry that is left out at that.
    for name in [&b"zeros"[..], b"../zeros"] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&sized(name, EntryType::Regular, b"", 65 << 20, b"")).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(65 << 20), &mut gzip).unwrap();
        assert!(is_too_large(&gzip.finish().unwrap()));
    }
}

#[test]
fn headers_without_end_are_refused() {
    let place = Place::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&sized(b"x", EntryType::GNULongName, b"", 1 << 30, b"")).unwrap();
    std::io::copy(&mut std::io::repeat(b'a').take(8 << 20), &mut gzip).unwrap();
    for bytes in [gzip.finish().unwrap(), whole(&[sized(b"x", EntryType::XHeader, b"", 2 << 20, &vec![b'1'; 2 << 20])])]
    {
        assert!(matches!(surveyed(&place, &bytes), Err(SeedError::Archive { .. })));
    }
}

#[test]
fn damaged_archives_are_refused() {
    let place = Place::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole(&[file(b"a", &[7; 9000]), file(b"b", b"x")])).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(matches!(surveyed(&place, &gzip[..gzip.len() / 2]), Err(SeedError::Archive { .. })));
    let plain = whole(&[file(b"a", &[7; 9000])]);
    assert!(matches!(surveyed(&place, &plain[..4096]), Err(SeedError::Archive { .. })));
    let mut spoiled = whole(&[file(b"a", b"x"), file(b"b", b"y")]);
    spoiled[1024 + 3] ^= 1;
    assert!(matches!(surveyed(&place, &spoiled), Err(SeedError::Archive { .. })));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"no tar").unwrap();
    assert!(matches!(surveyed(&place, &gzip.finish().unwrap()), Err(SeedError::UnknownKind { .. })));
    assert!(matches!(surveyed(&place, b"no tar"), Err(SeedError::UnknownKind { .. })));
    assert_eq!(told(&surveyed(&place, &whole(&[])).unwrap()), []);
}

/// Runs a program of the host; `None` when it is not there.
fn run(place: &Place, program: &str, words: &[&str]) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "archives are made by the programs that people make them with")]
    let mut command = std::process::Command::new(program);
    match command.current_dir(place.path("")).args(words).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        output => {
            let output = output.unwrap();
            // A tar without the program for a way of packing cannot make such an archive.
            output.status.success().then(|| place.path("archive"))
        }
    }
}

#[test]
fn archives_of_real_programs_are_read() {
    let place = Place::new();
    place.write("seed/a", "a\n");
    place.write("seed/dir/b", "b\n".repeat(100_000));
    std::fs::hard_link(place.path("seed/a"), place.path("seed/dir/hard")).unwrap();
    std::os::unix::fs::symlink("../..", place.path("seed/link")).unwrap();
    let sparse = File::create(place.path("seed/sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 4 << 20).unwrap();
    let expected = told(&place.survey("seed"));
    for packing in [&["--gzip"][..], &["--zstd"], &["--xz"], &[]] {
        for format in [&["--format=gnu"][..], &["--format=pax"], &["--format=ustar"], &["--sparse", "--format=gnu"]] {
            let words = [&["-cf", "archive", "-C", "seed"][..], packing, format, &["."]].concat();
            if run(&place, "tar", &words).is_some() {
                assert!(told(&place.survey("archive")) == expected, "{words:?}");
            }
        }
        for version in ["0.0", "0.1", "1.0"] {
            let version = format!("--sparse-version={version}");
            let words = [&["-cf", "archive", "-C", "seed", "--sparse", "--format=pax", &version][..], packing, &["."]];
            if run(&place, "tar", &words.concat()).is_some() {
                assert!(told(&place.survey("archive")) == expected, "{version} {packing:?}");
            }
        }
    }
    if run(&place, "sh", &["-c", "head -c 100 seed/a >x; tar -cf y -C seed .; split -n 2 y part; for p in part*; do zstd -q $p; done; cat part*.zst >archive"]).is_some() {
        assert!(told(&place.survey("archive")) == expected, "several frames");
        let mut bytes = std::fs::read(place.path("archive")).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        place.write("archive", bytes);
        assert!(matches!(survey(&place.request("archive")), Err(SeedError::Archive { .. })), "a wrong checksum");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn junk_is_read_or_refused(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        resummed in any::<bool>(),
    ) {
        let place = Place::new();
        let mut bytes = whole(&[
            pax(&[("path", "x"), ("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")]),
            file(b"a", b"1\n0\n3\n"),
            sized(b"s", EntryType::GNUSparse, b"", 512, &[1; 512]),
            entry(b"l", EntryType::Link, b"a", b""),
        ]);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if resummed {
            for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
                let mut header = Header::new_gnu();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        if let Ok(tree) = surveyed(&place, &bytes) {
            for entry in &tree.entries {
                prop_assert!(!entry.path.split(|byte| *byte == b'/').any(|part| part == b".." || part.is_empty()));
            }
        }
    }
}
