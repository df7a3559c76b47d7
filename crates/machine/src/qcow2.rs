//! Empty qcow2 files: the layers of a workspace's disk that writes go to.
//!
//! Only the empty file is written here; everything after that is QEMU's. What a layer holds is read here too, to make one
//! image of a chain: a hypervisor that a guest took over may have written anything, so all numbers are checked. The format is version 3 of QEMU's
//! `docs/interop/qcow2.txt`. An empty file is four clusters: the header, a refcount table, a refcount block, and an L1
//! table that says that no data is here, so that all of it is read from the layer below.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};

const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// Bytes of the disk that one entry of the L1 table stands for: a cluster of 8-byte entries, each for one cluster.
const L1_ENTRY_BYTES: u64 = CLUSTER_BYTES / 8 * CLUSTER_BYTES;
const HEADER_BYTES: u32 = 104;
/// Counts of 16 bits, the usual.
const REFCOUNT_ORDER: u32 = 4;
/// Where an entry of a table points to.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// An entry of a compressed cluster; QEMU writes none by itself.
const COMPRESSED: u64 = 1 << 62;
/// An entry of a cluster that reads as zeroes.
const ZEROES: u64 = 1;
/// `QFI` and 0xfb.
const MAGIC: u32 = 0x5146_49fb;

/// Writes an empty layer for a disk of `size_bytes` into `file`, which must be empty.
///
/// # Errors
/// As the system calls, or the size is not one that a single cluster of L1 entries covers (4 TiB).
pub fn write_empty_layer(file: &File, size_bytes: u64) -> io::Result<()> {
    let l1_entries = size_bytes.div_ceil(L1_ENTRY_BYTES);
    if size_bytes == 0 || l1_entries * 8 > CLUSTER_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a disk layer is for 1 byte to 4 TiB"));
    }
    let [table_at, block_at, l1_at] = [1, 2, 3].map(|cluster| cluster * CLUSTER_BYTES);
    let mut header = Vec::new();
    let mut word = |value: u32| header.extend(value.to_be_bytes());
    let [size, table, l1] = [size_bytes, table_at, l1_at].map(halves);
    // The backing file's name (offset, length) is left out: which layer is below is always stated when it is opened.
    let before_l1 = [MAGIC, 3, 0, 0, 0, CLUSTER_BITS, size[0], size[1], 0];
    let tables = [u32::try_from(l1_entries).expect("checked above"), l1[0], l1[1], table[0], table[1], 1];
    // No snapshots, no feature bits.
    let after = [0, 0, 0, 0, 0, 0, 0, 0, 0, REFCOUNT_ORDER, HEADER_BYTES];
    for value in before_l1.into_iter().chain(tables).chain(after) {
        word(value);
    }
    debug_assert_eq!(header.len(), HEADER_BYTES as usize);
    file.write_all_at(&header, 0)?;
    file.write_all_at(&block_at.to_be_bytes(), table_at)?;
    // One reference to each of the four clusters.
    file.write_all_at(&[0, 1, 0, 1, 0, 1, 0, 1], block_at)?;
    file.set_len(l1_at + CLUSTER_BYTES)
}

/// Writes what `layer` holds over what `image`, a raw image of its size, has: data as data, zeroes as holes.
///
/// # Errors
/// As the system calls; or it is no layer that QEMU writes over an empty one.
pub fn apply(layer: &File, image: &File) -> io::Result<()> {
    let length = layer.metadata()?.len();
    let size_bytes = image.metadata()?.len();
    let mut header = [0; HEADER_BYTES as usize];
    layer.read_exact_at(&mut header, 0)?;
    let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes are four bytes"));
    let long = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes are eight bytes"));
    // No other features, no encryption, no snapshots of QEMU's own.
    let is_ours = (word(0), word(4), word(20), long(24), word(32)) == (MAGIC, 3, CLUSTER_BITS, size_bytes, 0);
    if !is_ours || long(72) != 0 || word(60) != 0 {
        return Err(bad("its header is not one of ours"));
    }
    let l1_entries = size_bytes.div_ceil(L1_ENTRY_BYTES);
    if u64::from(word(36)) != l1_entries {
        return Err(bad("its first table has another size"));
    }
    let l1 = table(layer, long(40), l1_entries, length)?;
    let mut cluster = vec![0; CLUSTER_BYTES as usize];
    for (index, entry) in (0..).zip(l1) {
        if entry & OFFSET_MASK == 0 {
            continue;
        }
        let l2 = table(layer, entry & OFFSET_MASK, CLUSTER_BYTES / 8, length)?;
        for (number, entry) in (0..).zip(l2) {
            let at: u64 = index * L1_ENTRY_BYTES + number * CLUSTER_BYTES;
            if entry == 0 || at >= size_bytes {
                continue;
            }
            let count = CLUSTER_BYTES.min(size_bytes - at);
            let bytes = &mut cluster[..usize::try_from(count).map_err(io::Error::other)?];
            match (entry & COMPRESSED, entry & ZEROES, entry & OFFSET_MASK) {
                (0, 0, 0) => continue,
                (0, 0, offset) if offset.is_multiple_of(CLUSTER_BYTES) && offset < length => {
                    read_whole(layer, bytes, offset)?;
                }
                (0, ZEROES, _) => bytes.fill(0),
                _ => return Err(bad("one of its entries points nowhere")),
            }
            if bytes.iter().all(|byte| *byte == 0) {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                if fallocate(image, flags, at, count).is_ok() {
                    continue;
                }
            }
            image.write_all_at(bytes, at)?;
        }
    }
    Ok(())
}

/// Reads a table of `count` numbers.
fn table(layer: &File, at: u64, count: u64, length: u64) -> io::Result<Vec<u64>> {
    if !at.is_multiple_of(CLUSTER_BYTES) || at == 0 || at >= length || count * 8 > CLUSTER_BYTES {
        return Err(bad("one of its tables is nowhere in it"));
    }
    let mut bytes = vec![0; usize::try_from(count * 8).map_err(io::Error::other)?];
    read_whole(layer, &mut bytes, at)?;
    let numbers = bytes.chunks_exact(8).map(|number| u64::from_be_bytes(number.try_into().expect("chunks of eight")));
    Ok(numbers.collect())
}

/// Reads as much as there is; behind the end of a file all is zero.
fn read_whole(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    bytes[done..].fill(0);
    Ok(())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a layer of the disk is damaged: {what}"))
}

fn halves(value: u64) -> [u32; 2] {
    let bytes = value.to_be_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::{apply, write_empty_layer};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "QEMU's own tool writes the layer")]
    fn what_qemu_wrote_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer.qcow2");
        let size: u64 = (3 << 30) + 512 * 7;
        write_empty_layer(&File::create_new(&path).unwrap(), size).unwrap();
        let end = size - 512;
        for command in
            ["write -P 0x41 0 100k", "write -P 0x42 1g 64k", "write -z 2g 64k", &format!("write -P 0x43 {end} 512")]
        {
            let written =
                std::process::Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(&path).output();
            assert!(written.expect("qemu-io is installed").status.success(), "{command}");
        }
        let image = File::options().read(true).write(true).create_new(true).open(dir.path().join("image")).unwrap();
        image.set_len(size).unwrap();
        image.write_all_at(&[9; 16], 200 << 10).unwrap();
        image.write_all_at(&[9; 16], 2 << 30).unwrap();
        apply(&File::open(&path).unwrap(), &image).unwrap();
        let byte = |at: u64| {
            let mut one = [0];
            image.read_exact_at(&mut one, at).unwrap();
            one[0]
        };
        assert_eq!(
            [0, (100 << 10) - 1, 100 << 10, 1 << 30, end, size - 1].map(byte),
            [0x41, 0x41, 0, 0x42, 0x43, 0x43]
        );
        assert_eq!([200 << 10, 2 << 30].map(byte), [9, 0], "what is not in the layer shows through, zeroes cover it");
        assert!(image.metadata().unwrap().blocks() * 512 < 1 << 20, "holes were filled");
        // Whatever stands in it, it is refused or read, and nothing beyond the image is written.
        let layer = File::options().read(true).write(true).open(&path).unwrap();
        for at in [0, 4, 20, 24, 36, 40, 72, 3 << 16] {
            let mut before = [0; 8];
            layer.read_exact_at(&mut before, at).unwrap();
            layer.write_all_at(&[0xff; 8], at).unwrap();
            assert!(apply(&layer, &image).is_err(), "damaged at {at}");
            layer.write_all_at(&before, at).unwrap();
        }
        assert_eq!(image.metadata().unwrap().len(), size);
    }

    #[expect(clippy::disallowed_methods, reason = "QEMU's own tool judges the file")]
    fn check(size_bytes: u64) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer.qcow2");
        write_empty_layer(&File::create_new(&path).unwrap(), size_bytes).unwrap();
        let tool = |arguments: &[&str]| {
            std::process::Command::new("qemu-img").args(arguments).arg(&path).output().expect("qemu-img is installed")
        };
        let checked = tool(&["check", "-f", "qcow2"]);
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let info = tool(&["info", "-f", "qcow2", "--output=json"]);
        let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
        assert_eq!(info["virtual-size"], size_bytes);
        assert_eq!(info.get("backing-filename"), None);
    }

    #[test]
    fn qemu_finds_an_empty_layer_sound() {
        for gib in [1, 16, 256] {
            check(gib << 30);
        }
        check(5 * 512);
    }

    #[test]
    fn a_size_beyond_one_table_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, size) in [("empty", 0), ("large", (4 << 40) + 1)] {
            let file = File::create_new(dir.path().join(name)).unwrap();
            write_empty_layer(&file, size).unwrap_err();
        }
    }
}
