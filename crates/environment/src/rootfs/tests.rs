//! Small packages, merged; the image is read back with an independent reader and, where the host has it, `e2fsck`.

use std::path::{Path, PathBuf};

use vm_tests::archive::Deb;

use super::{BuiltRootfs, RootfsError, build};
use crate::package::Package;

struct Fixture {
    dir: tempfile::TempDir,
    packages: Vec<Package>,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), packages: Vec::new() }
    }

    fn with(mut self, name: &str, version: &str, shape: impl FnOnce(Deb) -> Deb) -> Self {
        let bytes = shape(Deb::new(name, version)).build();
        self.add(name, version, &bytes);
        self
    }

    fn add(&mut self, name: &str, version: &str, bytes: &[u8]) {
        let file = self.dir.path().join(format!("{name}.deb"));
        std::fs::write(&file, bytes).unwrap();
        self.packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            sha256: format!("{:0>64}", name.len()),
            size_bytes: bytes.len() as u64,
            file,
            control: Vec::new(),
            essential: false,
        });
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn build(&self) -> Result<BuiltRootfs, RootfsError> {
        let file = std::fs::File::create(self.image()).unwrap();
        build(&self.packages, &self.image(), file, &|_| {})
    }

    fn read(&self, path: &str) -> String {
        let mut reader = arcbox_ext4::Reader::new(&self.image()).unwrap();
        String::from_utf8(reader.read_file(path, 0, None).unwrap()).unwrap()
    }

    fn exists(&self, path: &str) -> bool {
        arcbox_ext4::Reader::new(&self.image()).unwrap().stat_no_follow(path).is_ok()
    }
}

fn check_clean(image: &Path) {
    #[expect(clippy::disallowed_methods, reason = "a test asks the host's own checker")]
    let mut command = std::process::Command::new("e2fsck");
    match command.arg("-fn").arg(image).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}

#[test]
fn packages_are_merged_into_usr_and_recorded() {
    let fixture = Fixture::new()
        .with("tool", "1.0-1", |deb| {
            deb.file("bin/tool", 0o4755, "program")
                .file("usr/share/doc/tool/README", 0o644, "words")
                .file("usr/share/doc/tool/copyright", 0o644, "licence")
                .file("etc/tool.conf", 0o644, "setting\n")
                .symlink("sbin/toolctl", "../bin/tool")
                .field("Multi-Arch", "same")
                .script("postinst", "#!/bin/sh\n")
                .script("conffiles", "/etc/tool.conf\n")
                .script("triggers", "interest-noawait /usr/share/tools\ninterest toolcache\nactivate ldconfig\n")
        })
        .with("library", "2.0", |deb| deb.file("lib/x86_64-linux-gnu/lib.so.1", 0o644, "code"));
    let built = fixture.build().unwrap();
    check_clean(&fixture.image());
    assert_eq!((built.unconfigured_count, built.preinsts.len()), (1, 0));

    assert_eq!(fixture.read("/usr/bin/tool"), "program");
    assert_eq!(fixture.read("/bin/tool"), "program");
    assert_eq!(fixture.read("/lib/x86_64-linux-gnu/lib.so.1"), "code");
    assert_eq!(fixture.read("/usr/share/doc/tool/copyright"), "licence");
    assert!(fixture.exists("/usr/sbin/toolctl") && !fixture.exists("/usr/share/doc/tool/README"));
    let mut reader = arcbox_ext4::Reader::new(&fixture.image()).unwrap();
    assert_eq!(reader.stat("/usr/bin/tool").unwrap().1.mode & 0o7777, 0o4755);

    let status = fixture.read("/var/lib/dpkg/status");
    let (tool, library) = status.split_once("\n\n").unwrap();
    assert!(tool.contains("Package: tool\nStatus: install ok unpacked\n"), "{status}");
    assert!(tool.ends_with("Conffiles:\n /etc/tool.conf 2c1d4f59f062ce424618f4d25961fb76"), "{status}");
    assert!(library.contains("Package: library\nStatus: install ok installed\n"), "{status}");
    let list = fixture.read("/var/lib/dpkg/info/tool:amd64.list");
    assert!(
        list.lines().any(|line| line == "/bin/tool") && list.lines().any(|line| line == "/usr/share/doc/tool/README")
    );
    assert!(fixture.exists("/var/lib/dpkg/info/tool:amd64.postinst"));
    assert_eq!(fixture.read("/var/lib/dpkg/triggers/File"), "/usr/share/tools tool:amd64/noawait\n");
    assert_eq!(fixture.read("/var/lib/dpkg/triggers/toolcache"), "tool:amd64\n");
    assert!(!fixture.exists("/var/lib/dpkg/triggers/ldconfig"));
}

#[test]
fn a_file_is_taken_over_only_where_a_package_says_so() {
    let old = |deb: Deb| deb.file("usr/bin/shared", 0o755, "old");
    let new = |deb: Deb| deb.file("usr/bin/shared", 0o755, "new");

    let conflict = Fixture::new().with("first", "1", old).with("second", "1", new).build().unwrap_err();
    assert_eq!(conflict.to_string(), "/usr/bin/shared is in both first and second");

    let later =
        Fixture::new().with("first", "1", old).with("second", "1", |deb| new(deb).field("Replaces", "first (<< 2)"));
    later.build().unwrap();
    assert_eq!(later.read("/usr/bin/shared"), "new");
    assert!(!later.read("/var/lib/dpkg/info/first.list").contains("shared"));
    check_clean(&later.image());

    let earlier =
        Fixture::new().with("first", "1", |deb| old(deb).field("Replaces", "second")).with("second", "1", new);
    earlier.build().unwrap();
    assert_eq!(earlier.read("/usr/bin/shared"), "old");

    let too_new =
        Fixture::new().with("first", "3", old).with("second", "1", |deb| new(deb).field("Replaces", "first (<< 2)"));
    assert!(matches!(too_new.build(), Err(RootfsError::Conflict { .. })));
}

#[test]
fn links_among_the_directories_of_a_path_are_followed() {
    let fixture = Fixture::new()
        .with("first", "1", |deb| deb.file("srv/real/a", 0o644, "a").symlink("usr/link", "../srv/./real"))
        .with("second", "1", |deb| deb.file("usr/link/b", 0o644, "b").symlink("usr/loop", "loop"))
        .with("third", "1", |deb| deb.symlink("srv/absolute", "/usr/link").file("srv/absolute/c/d", 0o644, "d"));
    fixture.build().unwrap();
    check_clean(&fixture.image());
    assert_eq!(fixture.read("/srv/real/b"), "b");
    assert_eq!(fixture.read("/srv/real/c/d"), "d");

    let looping = Fixture::new()
        .with("first", "1", |deb| deb.symlink("usr/loop", "loop"))
        .with("second", "1", |deb| deb.file("usr/loop/x", 0o644, "x"));
    assert!(looping.build().is_err());
}

#[test]
fn only_preinsts_that_do_something_are_run() {
    let idle = "#!/bin/sh\nset -e\n# Automatically added\ndpkg-maintscript-helper rm_conffile /etc/x 1~ -- \"$@\"\n";
    let fixture = Fixture::new()
        .with("idle", "1", |deb| deb.script("preinst", idle))
        .with("base-passwd", "1", |deb| deb.script("preinst", "#!/bin/sh\ntouch /etc/passwd\n"));
    assert_eq!(fixture.build().unwrap().preinsts, ["base-passwd"]);
}

#[test]
fn hard_links_and_long_names_survive() {
    let long = format!("usr/share/{}", "long-name/".repeat(20));
    let mut data = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(0o755);
    header.set_mtime(1_700_000_000);
    data.append_data(&mut header, format!("./{long}first"), &b"12345"[..]).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Link);
    link.set_mode(0o755);
    link.set_mtime(1_700_000_000);
    link.set_size(0);
    link.set_uid(0);
    link.set_gid(0);
    data.append_link(&mut link, "./bin/second", format!("./{long}first")).unwrap();
    let mut control = tar::Builder::new(Vec::new());
    let text = b"Package: linked\nVersion: 1\nArchitecture: amd64\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    control.append_data(&mut header, "./control", &text[..]).unwrap();
    let mut deb = ar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", control.into_inner().unwrap()),
        ("data.tar", data.into_inner().unwrap()),
    ] {
        deb.append(&ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64), &bytes[..]).unwrap();
    }
    let mut fixture = Fixture::new();
    fixture.add("linked", "1", &deb.into_inner().unwrap());
    fixture.build().unwrap();
    check_clean(&fixture.image());
    assert_eq!(fixture.read("/usr/bin/second"), "12345");
    assert_eq!(fixture.read(&format!("/{long}first")), "12345");
}

#[test]
fn the_same_packages_give_the_same_image() {
    let images: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            let fixture = Fixture::new().with("tool", "1", |deb| deb.file("bin/tool", 0o755, "program"));
            fixture.build().unwrap();
            std::fs::read(fixture.image()).unwrap()
        })
        .collect();
    assert!(images[0] == images[1]);
}

#[test]
fn a_file_that_is_no_package_is_named() {
    let mut fixture = Fixture::new();
    fixture.add("broken", "1", b"!<arch>\nnot a member");
    let error = fixture.build().unwrap_err();
    assert!(error.to_string().contains("broken.deb"), "{error}");
}
