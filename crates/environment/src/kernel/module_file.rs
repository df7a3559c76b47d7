//! Reads one kernel module: what it depends on, which names it answers to, which symbols it exports.

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol};

/// What the module says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModuleInfo {
    /// Names of the modules it needs, directly.
    pub(super) depends: Vec<String>,
    /// Names and device patterns it answers to.
    pub(super) aliases: Vec<String>,
    /// Modules to load before or after it, as `pre: a b post: c`.
    pub(super) softdeps: Vec<String>,
    /// Symbols it exports.
    pub(super) symbols: Vec<String>,
}

/// Why a module cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("it is not an ELF module: {0}")]
pub struct MalformedModule(object::Error);

const EXPORT_PREFIX: &str = "__ksymtab_";

/// Reads a module's ELF file.
pub(super) fn read(bytes: &[u8]) -> Result<ModuleInfo, MalformedModule> {
    let elf = ElfFile64::<object::LittleEndian>::parse(bytes).map_err(MalformedModule)?;
    let mut info = ModuleInfo::default();
    if let Some(section) = elf.section_by_name(".modinfo") {
        for (key, value) in strings(section.data().map_err(MalformedModule)?) {
            match key {
                "depends" => info.depends = value.split(',').filter(|name| !name.is_empty()).map(module_name).collect(),
                "alias" => info.aliases.push(value.to_owned()),
                "softdep" => info.softdeps.push(value.to_owned()),
                _ => {}
            }
        }
    }
    for symbol in elf.symbols() {
        if let Some(name) = symbol.name().ok().and_then(|name| name.strip_prefix(EXPORT_PREFIX)) {
            info.symbols.push(name.to_owned());
        }
    }
    info.symbols.sort_unstable();
    info.symbols.dedup();
    Ok(info)
}

/// The `key=value` strings of a `.modinfo` section, which end in NUL.
pub(super) fn strings(section: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    section
        .split(|byte| *byte == 0)
        .filter_map(|string| std::str::from_utf8(string).ok())
        .filter_map(|string| string.split_once('='))
}

/// A module's name as the kernel compares it: the file's name up to its first dot, with `_` for `-`.
pub(super) fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// An ELF header and two section headers, enough to be looked into.
    fn elf() -> Vec<u8> {
        let mut bytes = vec![0; 64 + 2 * 64 + 64];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        for (at, value) in [(16, 1_u16), (18, 62), (52, 64), (58, 64), (60, 2), (62, 1)] {
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        bytes[20] = 1;
        bytes[40] = 64;
        let names = 64 + 64;
        bytes[names + 4] = 3;
        bytes[names + 24] = 192;
        bytes[names + 32] = 64;
        bytes[192..202].copy_from_slice(b"\0.modinfo\0");
        bytes
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_a_module(changes in proptest::collection::vec((0..256_usize, any::<u8>()), 0..12)) {
            let mut bytes = elf();
            super::read(&bytes).unwrap();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            drop(super::read(&bytes));
        }

        #[test]
        fn any_section_is_read_as_strings(section in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(super::strings(&section).count() <= section.len());
        }
    }
}
