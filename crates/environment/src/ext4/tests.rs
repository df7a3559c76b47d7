//! Images made here, judged by two independent readers: `e2fsck` where the host has it, and the `arcbox-ext4` crate.

use std::fs::File;
use std::path::Path;

use super::{Attributes, Ext4Error, FormatOptions, Formatter, Kind};

const TIME: i64 = 1_700_000_000;

fn options(size_bytes: u64, journal_blocks: u32) -> FormatOptions {
    FormatOptions { size_bytes, bytes_per_inode: 16_384, uuid: [7; 16], time_seconds: TIME, journal_blocks }
}

fn create(image: &Path, options: FormatOptions) -> Formatter {
    let file = File::options().write(true).create_new(true).open(image).unwrap();
    Formatter::new(image, file, options).unwrap()
}

fn root(mode: u16) -> Attributes {
    Attributes::of_root(mode, TIME)
}

/// Fails unless e2fsck finds nothing to say. A host without it relies on the other reader.
fn check_clean(image: &Path) {
    #[expect(clippy::disallowed_methods, reason = "a test asks the host's own checker")]
    let mut command = std::process::Command::new("e2fsck");
    match command.arg("-fn").arg(image).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}

fn content(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 251) as u8).collect()
}

fn fill(formatter: &mut Formatter) {
    formatter.add_directory(b"usr", root(0o755)).unwrap();
    formatter.add_directory(b"usr/bin", root(0o755)).unwrap();
    let setuid = Attributes {
        mode: 0o4755,
        uid: 70_000,
        gid: 70_001,
        mtime_seconds: 5_000_000_000,
        mtime_nanoseconds: 123_456_789,
    };
    formatter.add_file(b"usr/bin/su", setuid, 10_000, &mut &content(10_000)[..]).unwrap();
    formatter.add_file(b"/empty", root(0o600), 0, &mut &b""[..]).unwrap();
    formatter.add_hard_link(b"usr/bin/su2", b"/usr/bin/su").unwrap();
    formatter.add_symlink(b"bin", root(0o777), b"usr/bin").unwrap();
    formatter.add_symlink(b"long", root(0o777), &[b'x'; 300]).unwrap();
    formatter.add_special(b"null", root(0o666), Kind::CharDevice(1, 3)).unwrap();
    let name = [b'n'; 255];
    formatter.add_file(&name, root(0o644), 1, &mut &b"1"[..]).unwrap();
    formatter.add_directory(b"many", root(0o755)).unwrap();
    for index in 0..3000 {
        formatter.add_file(format!("many/file-{index}").as_bytes(), root(0o644), 3, &mut &b"abc"[..]).unwrap();
    }
}

#[test]
fn what_is_put_in_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut formatter = create(&image, options(128 << 20, 0));
    fill(&mut formatter);
    formatter.finish().unwrap();
    check_clean(&image);

    let mut reader = arcbox_ext4::Reader::new(&image).unwrap();
    assert_eq!(reader.read_file("/usr/bin/su2", 0, None).unwrap(), content(10_000));
    assert_eq!(reader.list_dir("/many").unwrap().len(), 3000);
    let (_, inode) = reader.stat_no_follow("/usr/bin/su").unwrap();
    assert_eq!(
        (inode.mode & 0o7777, inode.uid_full(), inode.gid_full(), inode.links_count),
        (0o4755, 70_000, 70_001, 2)
    );
    assert_eq!(reader.read_file("/bin/su", 0, None).unwrap().len(), 10_000);
    assert!(reader.stat_no_follow("/long").unwrap().1.is_link());
    // Nanoseconds stand above the two bits of the epoch; the reader hands them out as they lie on the disk.
    assert_eq!((inode.mtime_extra >> 2, inode.mtime_extra & 3), (123_456_789, 1));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let images = ["a", "b"].map(|name| dir.path().join(name));
    for image in &images {
        let mut formatter = create(image, options(64 << 20, 0));
        fill(&mut formatter);
        formatter.finish().unwrap();
    }
    assert!(std::fs::read(&images[0]).unwrap() == std::fs::read(&images[1]).unwrap());
}

#[test]
fn a_removed_entry_gives_its_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut formatter = create(&image, options(16 << 20, 0));
    for _ in 0..20 {
        formatter.add_file(b"big", root(0o644), 8 << 20, &mut &content(8 << 20)[..]).unwrap();
        formatter.remove(b"big").unwrap();
        formatter.add_directory(b"d", root(0o755)).unwrap();
        formatter.remove(b"d").unwrap();
    }
    formatter.add_file(b"big", root(0o644), 5, &mut &b"final"[..]).unwrap();
    formatter.finish().unwrap();
    check_clean(&image);
    let mut reader = arcbox_ext4::Reader::new(&image).unwrap();
    assert_eq!(reader.read_file("/big", 0, None).unwrap(), b"final");
}

#[test]
fn empty_disks_of_all_sizes_are_clean_and_small() {
    let dir = tempfile::tempdir().unwrap();
    for size_bytes in [24 << 20, 128 << 20, (128 << 20) + 5 * 4096, (128 << 20) + 300 * 4096, 1 << 30, 16 << 30_u64] {
        let image = dir.path().join(size_bytes.to_string());
        let formatted = create(&image, options(size_bytes, 1024)).finish().unwrap();
        check_clean(&image);
        assert!(formatted.size_bytes <= size_bytes && formatted.size_bytes > size_bytes - (1 << 20));
        use std::os::unix::fs::MetadataExt;
        assert!(std::fs::metadata(&image).unwrap().blocks() * 512 < 4 << 20);
    }
}

#[test]
fn zeros_stay_a_hole_until_blocks_are_used_again() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut formatter = create(&image, options(64 << 20, 0));
    let free_bytes = formatter.free_bytes();
    formatter.add_file(b"zeros", root(0o644), 32 << 20, &mut std::io::repeat(0)).unwrap();
    assert_eq!(formatter.free_bytes(), free_bytes - (32 << 20));
    assert!(std::fs::metadata(&image).unwrap().blocks() * 512 < 1 << 20);
    formatter.remove(b"zeros").unwrap();
    formatter.add_file(b"ones", root(0o644), 32 << 20, &mut std::io::repeat(1)).unwrap();
    formatter.remove(b"ones").unwrap();
    formatter.add_file(b"zeros", root(0o644), 56 << 20, &mut std::io::repeat(0)).unwrap();
    formatter.finish().unwrap();
    check_clean(&image);
    let content = arcbox_ext4::Reader::new(&image).unwrap().read_file("/zeros", 0, None).unwrap();
    assert!(content.len() == 56 << 20 && content.iter().all(|byte| *byte == 0));
}

#[test]
fn a_file_in_many_pieces_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut formatter = create(&image, FormatOptions { bytes_per_inode: 4096, ..options(16 << 20, 0) });
    for index in 0..2000 {
        formatter.add_file(format!("{index}").as_bytes(), root(0o644), 4096, &mut &content(4096)[..]).unwrap();
    }
    for index in (0..2000).step_by(2) {
        formatter.remove(format!("{index}").as_bytes()).unwrap();
    }
    let size = 10 << 20;
    formatter.add_file(b"pieces", root(0o644), size as u64, &mut &content(size)[..]).unwrap();
    formatter.finish().unwrap();
    check_clean(&image);
    let mut reader = arcbox_ext4::Reader::new(&image).unwrap();
    assert!(reader.read_file("/pieces", 0, None).unwrap() == content(size));
}

/// The name of the entry of a number.
type NameOf<'a> = &'a dyn Fn(usize) -> Vec<u8>;

#[test]
fn large_directories_have_an_index_that_e2fsck_agrees_with() {
    let dir = tempfile::tempdir().unwrap();
    // Names of all lengths and bytes; enough of the long ones for a second level of the index.
    let long = |index: usize| [vec![b'a' + (index % 26) as u8; 240], index.to_string().into_bytes()].concat();
    let odd =
        |index: usize| [&index.to_le_bytes().map(|byte| byte.max(1) | 0x80)[..], index.to_string().as_bytes()].concat();
    let short = |index: usize| format!("{index}").into_bytes();
    let kinds: [(usize, NameOf<'_>); 4] = [(300, &short), (5000, &odd), (9000, &long), (40_000, &short)];
    for (number, (count, name)) in kinds.into_iter().enumerate() {
        let image = dir.path().join(number.to_string());
        let options = FormatOptions { bytes_per_inode: 2048, ..options(128 << 20, 0) };
        let mut formatter = create(&image, options);
        formatter.add_directory(b"d", root(0o755)).unwrap();
        formatter.add_file(b"file", root(0o644), 0, &mut &b""[..]).unwrap();
        for index in 0..count {
            formatter.add_hard_link(&[b"d/".to_vec(), name(index)].concat(), b"file").unwrap();
        }
        formatter.finish().unwrap();
        check_clean(&image);
        assert_eq!(arcbox_ext4::Reader::new(&image).unwrap().list_dir("/d").unwrap().len(), count);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut formatter = create(&image, options(16 << 20, 0));
    formatter.add_file(b"file", root(0o644), 0, &mut &b""[..]).unwrap();
    let mut add = |path: &[u8]| formatter.add_file(path, root(0o644), 0, &mut &b""[..]).unwrap_err();
    assert!(matches!(add(b"../x"), Ext4Error::BadPath { .. }));
    assert!(matches!(add(b"a\0b"), Ext4Error::BadPath { .. }));
    assert!(matches!(add(b"/"), Ext4Error::BadPath { .. }));
    assert!(matches!(add(&[b'x'; 256]), Ext4Error::BadPath { .. }));
    assert!(matches!(add(b"nowhere/x"), Ext4Error::NotFound { .. }));
    assert!(matches!(add(b"file/x"), Ext4Error::NotADirectory { .. }));
    assert!(matches!(add(b"file"), Ext4Error::Exists { .. }));
    let too_big = formatter.add_file(b"big", root(0o644), 1 << 30, &mut std::io::empty());
    assert!(matches!(too_big, Err(Ext4Error::NoRoom { .. })));
    let short = formatter.add_file(b"short", root(0o644), 10, &mut &b"123"[..]);
    assert!(matches!(short, Err(Ext4Error::ContentEnds { .. })));
}
