//! The initial RAM filesystem: the agent as `/init`, the modules it loads, and their order in `/pyro/modules.list`.
//!
//! A plain `cpio` archive in the `newc` format that the kernel unpacks. Uncompressed: unpacking is work for an emulated
//! processor, reading is not.

/// The list of modules, one absolute path a line, in the order of loading.
const LIST_PATH: &str = "pyro/modules.list";
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const PLAIN_FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// One module to load.
#[derive(Debug, Clone, Copy)]
pub(super) struct InitModule<'a> {
    /// Path below `/lib/modules/<release>`.
    pub(super) path: &'a str,
    /// Its ELF file, uncompressed.
    pub(super) bytes: &'a [u8],
}

/// Builds the archive. The same input gives the same bytes.
pub(super) fn build(agent: &[u8], modules: &[InitModule<'_>]) -> Vec<u8> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "run", "pyro", "pyro/modules"] {
        archive.add(directory, DIRECTORY, (0, 0), &[]);
    }
    // The kernel opens it for the first process before anything is mounted.
    archive.add("dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    archive.add("init", PROGRAM, (0, 0), agent);
    let mut list = String::new();
    for module in modules {
        let file = module.path.rsplit('/').next().unwrap_or_default();
        let file = file.split_once(".ko").map_or(file, |(name, _)| name);
        let path = format!("pyro/modules/{file}.ko");
        archive.add(&path, PLAIN_FILE, (0, 0), module.bytes);
        list.push('/');
        list.push_str(&path);
        list.push('\n');
    }
    archive.add(LIST_PATH, PLAIN_FILE, (0, 0), list.as_bytes());
    archive.finish()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), length of the name, no checksum
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            content.len() as u32,
            0,
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{InitModule, build};

    #[test]
    fn an_archive_has_its_entries_aligned_and_in_order() {
        let modules = [
            InitModule { path: "kernel/drivers/virtio/virtio_ring.ko", bytes: b"abc" },
            InitModule { path: "kernel/drivers/virtio/virtio-rng.ko.xz", bytes: b"defgh" },
        ];
        let archive = build(b"agent!", &modules);
        assert_eq!(archive.len() % 512, 0);
        let mut names = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&archive[at + 6 + 8 * index..at + 14 + 8 * index]).unwrap();
                u32::from_str_radix(text, 16).unwrap() as usize
            };
            let name = std::str::from_utf8(&archive[at + 110..at + 110 + field(11) - 1]).unwrap();
            if name == "TRAILER!!!" {
                break;
            }
            let content = (at + 110 + field(11)).next_multiple_of(4);
            names.push((name.to_owned(), archive[content..content + field(6)].to_vec()));
            at = (content + field(6)).next_multiple_of(4);
        }
        let find = |wanted: &str| names.iter().find(|(name, _)| name == wanted).map(|(_, bytes)| bytes.clone());
        assert_eq!(find("init").unwrap(), b"agent!");
        assert_eq!(find("pyro/modules/virtio-rng.ko").unwrap(), b"defgh");
        assert_eq!(
            String::from_utf8(find("pyro/modules.list").unwrap()).unwrap(),
            "/pyro/modules/virtio_ring.ko\n/pyro/modules/virtio-rng.ko\n"
        );
    }
}
