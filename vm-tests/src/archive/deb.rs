//! A package file: an `ar` archive of `debian-binary`, `control.tar.xz` and `data.tar.xz`.

use std::io::Write;

use super::{sha256, xz};

/// A package to build.
#[derive(Debug, Clone)]
pub struct Deb {
    name: String,
    version: String,
    fields: Vec<(String, String)>,
    control_files: Vec<Entry>,
    files: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    path: String,
    mode: u32,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Directory,
    File(Vec<u8>),
    Symlink(String),
}

/// All files get this time, so that the same package is the same file.
const MODIFIED: u64 = 1_700_000_000;

impl Deb {
    /// A package for amd64 without any file.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        let (fields, control_files, files) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.to_owned(), version: version.to_owned(), fields, control_files, files }
    }

    /// With one more control field, such as `Depends`.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a file; its directories are added too. `path` has no slash in front.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(path, mode, Content::File(content.into()))
    }

    /// With a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, 0o777, Content::Symlink(target.to_owned()))
    }

    /// With a maintainer script, such as `postinst`.
    #[must_use]
    pub fn script(mut self, name: &str, text: &str) -> Self {
        let content = Content::File(text.into());
        self.control_files.push(Entry { path: name.to_owned(), mode: 0o755, content });
        self
    }

    fn entry(mut self, path: &str, mode: u32, content: Content) -> Self {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            if !self.files.iter().any(|entry| entry.path == parent) {
                self.files.push(Entry { path: parent.to_owned(), mode: 0o755, content: Content::Directory });
            }
        }
        self.files.push(Entry { path: path.to_owned(), mode, content });
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The package file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let control =
            Entry { path: "control".to_owned(), mode: 0o644, content: Content::File(self.control().into_bytes()) };
        let mut control_files = vec![control];
        control_files.extend(self.control_files.iter().cloned());
        let mut file = b"!<arch>\n".to_vec();
        append_member(&mut file, "debian-binary", b"2.0\n");
        append_member(&mut file, "control.tar.xz", &xz(&tar(&control_files)));
        append_member(&mut file, "data.tar.xz", &xz(&tar(&self.files)));
        file
    }

    /// Where archives keep it.
    #[must_use]
    pub fn pool_path(&self) -> String {
        let (name, version) =
            (&self.name, self.version.split_once(':').map_or(self.version.as_str(), |(_, rest)| rest));
        format!("pool/main/{}/{name}/{name}_{version}_{}.deb", &name[..1], self.architecture())
    }

    /// What a package list says of it, with the empty line at its end.
    #[must_use]
    pub fn stanza(&self, built: &[u8]) -> String {
        let (path, size, digest) = (self.pool_path(), built.len(), sha256(built));
        format!("{}Filename: {path}\nSize: {size}\nSHA256: {digest}\n\n", self.control())
    }

    fn architecture(&self) -> &str {
        self.fields.iter().find(|(name, _)| name == "Architecture").map_or("amd64", |(_, value)| value)
    }

    fn control(&self) -> String {
        let mut text = format!("Package: {}\nVersion: {}\n", self.name, self.version);
        let own = |wanted: &str| self.fields.iter().any(|(name, _)| name == wanted);
        for (name, value) in [("Architecture", "amd64"), ("Maintainer", "Test <test@example.org>")] {
            if !own(name) {
                text.push_str(&format!("{name}: {value}\n"));
            }
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\n"));
        }
        if !own("Description") {
            text.push_str("Description: a package of tests\n which does nothing\n");
        }
        text
    }
}

fn append_member(file: &mut Vec<u8>, name: &str, content: &[u8]) {
    writeln!(file, "{name:<16}{MODIFIED:<12}0     0     100644  {:<10}`", content.len())
        .expect("memory can be written to");
    file.extend_from_slice(content);
    if !content.len().is_multiple_of(2) {
        file.push(b'\n');
    }
}

/// A tar archive in the `ustar` form, in `./` as packages have it.
fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut file = header("./", 0o755, b'5', 0, "");
    for entry in entries {
        let path = format!("./{}", entry.path);
        match &entry.content {
            Content::Directory => file.extend(header(&format!("{path}/"), entry.mode, b'5', 0, "")),
            Content::Symlink(target) => file.extend(header(&path, entry.mode, b'2', 0, target)),
            Content::File(content) => {
                file.extend(header(&path, entry.mode, b'0', content.len(), ""));
                file.extend_from_slice(content);
                file.resize(file.len().next_multiple_of(512), 0);
            }
        }
    }
    file.resize(file.len() + 1024, 0);
    file
}

fn header(path: &str, mode: u32, kind: u8, size: usize, target: &str) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    assert!(path.len() < 100 && target.len() < 100, "a package of tests has short paths: {path}");
    put(0, path);
    put(100, &format!("{mode:07o}\0{:07o}\0{:07o}\0{size:011o}\0{MODIFIED:011o}\0        ", 0, 0));
    put(157, target);
    put(257, "ustar\x0000root");
    put(297, "root");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
