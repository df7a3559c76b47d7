//! Empty qcow2 files: the layers of a workspace's disk that writes go to.
//!
//! Only the empty file is written here; everything after that is QEMU's. The format is version 3 of QEMU's
//! `docs/interop/qcow2.txt`. An empty file is four clusters: the header, a refcount table, a refcount block, and an L1
//! table that says that no data is here, so that all of it is read from the layer below.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// Bytes of the disk that one entry of the L1 table stands for: a cluster of 8-byte entries, each for one cluster.
const L1_ENTRY_BYTES: u64 = CLUSTER_BYTES / 8 * CLUSTER_BYTES;
const HEADER_BYTES: u32 = 104;
/// Counts of 16 bits, the usual.
const REFCOUNT_ORDER: u32 = 4;
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

fn halves(value: u64) -> [u32; 2] {
    let bytes = value.to_be_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::write_empty_layer;

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
