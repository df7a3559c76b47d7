//! Whatever bytes come, these parsers answer or refuse; none of them panics, and what they answer keeps inside its bounds.
//! Most bytes are good ones with a few changed, as pure noise is refused at the first of them.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use pyro_store::environment_record::{EnvironmentRecord, KernelRecord, SealRecord};

use super::catalog::Catalog;
use super::deb;
use super::kernel;
use super::package::Package;
use super::rootfs;

const CONTROL: &str = "Package: x\nVersion: 1\nArchitecture: amd64\nReplaces: y (<< 2)\nDescription: x\n";

/// A package of every kind of entry there is, none of it packed, so that a changed byte is one that the reader sees.
fn package() -> Vec<u8> {
    let mut control = tar::Builder::new(Vec::new());
    for (name, text) in [
        ("control", CONTROL),
        ("conffiles", "/etc/x\n"),
        ("postinst", "#!/bin/sh\n"),
        ("triggers", "interest /usr/x\n"),
    ] {
        let mut header = header(tar::EntryType::Regular, text.len());
        control.append_data(&mut header, format!("./{name}"), text.as_bytes()).unwrap();
    }
    let mut data = tar::Builder::new(Vec::new());
    data.append_data(&mut header(tar::EntryType::Directory, 0), "./etc/", &b""[..]).unwrap();
    data.append_data(&mut header(tar::EntryType::Regular, 4), "./etc/x", &b"text"[..]).unwrap();
    data.append_data(&mut header(tar::EntryType::Regular, 700), "./usr/bin/x", &[7; 700][..]).unwrap();
    data.append_data(&mut header(tar::EntryType::Regular, 1), format!("./usr/{}/y", "long".repeat(40)), &b"y"[..])
        .unwrap();
    data.append_link(&mut header(tar::EntryType::Symlink, 0), "./usr/lib/x", "../bin/x").unwrap();
    data.append_link(&mut header(tar::EntryType::Link, 0), "./usr/bin/y", "./usr/bin/x").unwrap();
    data.append_data(&mut header(tar::EntryType::Fifo, 0), "./usr/fifo", &b""[..]).unwrap();
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", control.into_inner().unwrap()),
        ("data.tar", data.into_inner().unwrap()),
    ];
    let mut archive = ar::Builder::new(Vec::new());
    for (name, content) in members {
        let header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        archive.append(&header, &content[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn header(kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o755);
    header
}

/// Up to eight bytes changed, and perhaps the end cut off.
fn changed(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<Index>(), prop_oneof![any::<u8>(), b'0'..=b'9']), 0..8);
    (Just(good), changes, proptest::option::weighted(0.2, any::<Index>())).prop_map(|(mut bytes, changes, end)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

fn changed_text(good: &str) -> impl Strategy<Value = String> {
    changed(good.as_bytes().to_vec()).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads all of a package file.
fn read_package(path: &Path) {
    drop(deb::packed_seconds(path));
    drop(deb::control_files(path));
    drop(deb::for_each_entry::<deb::DebError>(path, &mut |entry, content| {
        assert!(!entry.path.starts_with(b"/") && entry.mode <= 0o7777);
        drop(std::io::copy(content, &mut std::io::sink()));
        Ok(())
    }));
}

fn in_a_file(bytes: &[u8], check: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    check(&path);
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_a_package(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let framed = [b"!<arch>\n", &bytes[..]].concat();
        in_a_file(&bytes, read_package);
        in_a_file(&framed, read_package);
    }

    #[test]
    fn a_changed_package_is_read(bytes in changed(package())) {
        in_a_file(&bytes, read_package);
    }

    #[test]
    fn any_text_is_read_as_a_catalog(text in changed_text(include_str!("catalog.toml")), noise in ".{0,80}") {
        let rows = text.split_once("[[").map_or(String::new(), |(_, rows)| format!("[[{rows}"));
        for text in [&text, &rows, &rows.replace("debian:12", "mine"), &noise] {
            drop(Catalog::builtin().with(text));
        }
    }

    #[test]
    fn any_text_is_read_as_a_record(
        environment in changed_text(include_str!("../../store/fixtures/environment-v1.json")),
        kernel in changed_text(include_str!("../../store/fixtures/kernel-v1.json")),
        seal in changed_text(r#"{"size_bytes":1,"modified_seconds":-2,"modified_nanoseconds":3}"#),
    ) {
        drop(serde_json::from_str::<EnvironmentRecord>(&environment));
        drop(serde_json::from_str::<KernelRecord>(&kernel));
        drop(serde_json::from_str::<SealRecord>(&seal));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kernel.json"), kernel).unwrap();
        drop(kernel::open(dir.path(), b"agent"));
    }
}

proptest! {
    // Each of these formats a filesystem.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_changed_package_is_merged(bytes in changed(package())) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("package");
        std::fs::write(&file, &bytes).unwrap();
        let image: PathBuf = dir.path().join("image");
        let package = Package {
            name: "x".to_owned(),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            sha256: "0".repeat(64),
            size_bytes: bytes.len() as u64,
            file,
            control: Vec::new(),
            essential: false,
        };
        let target = std::fs::File::create(&image).unwrap();
        drop(rootfs::build(&[package], &image, target, &|_| {}));
    }
}
