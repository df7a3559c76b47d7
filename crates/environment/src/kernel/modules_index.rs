//! What `depmod` would write beside a kernel's modules, so that `modprobe` works in the guest, and the order in which
//! modules have to be loaded.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::index_trie::IndexTrie;
use super::module_file::{self, ModuleInfo, module_name};

/// One module of a kernel.
#[derive(Debug)]
pub(super) struct Module {
    /// Path below `/lib/modules/<release>`, such as `kernel/fs/overlayfs/overlay.ko`.
    pub(super) path: String,
    /// Its name, as the kernel compares names.
    pub(super) name: String,
    pub(super) info: ModuleInfo,
}

/// All modules of a kernel and what belongs to them.
#[derive(Debug, Default)]
pub(super) struct ModuleSet {
    modules: Vec<Module>,
    by_name: BTreeMap<String, usize>,
    /// Paths of what is built in (`modules.builtin`).
    builtin: Vec<String>,
    /// `modules.builtin.modinfo`.
    builtin_info: Vec<u8>,
}

/// Why modules cannot be put in an order.
#[derive(Debug, thiserror::Error)]
pub enum ModuleOrderError {
    /// A module that is needed is neither there nor built in.
    #[error("the kernel has no module {name}")]
    Missing {
        /// Its name.
        name: String,
    },
    /// Modules need each other in a circle.
    #[error("the module {name} depends on itself")]
    Circle {
        /// One of them.
        name: String,
    },
}

impl ModuleSet {
    /// `order` is the text of `modules.order`: where two modules answer to one alias, the one it lists first is preferred.
    pub(super) fn new(mut modules: Vec<Module>, order: &str, builtin: &str, builtin_info: Vec<u8>) -> Self {
        let rank: BTreeMap<&str, usize> = order.lines().enumerate().map(|(rank, path)| (path, rank)).collect();
        modules.sort_by_cached_key(|module| {
            (rank.get(module.path.as_str()).copied().unwrap_or(usize::MAX), module.path.clone())
        });
        let by_name = modules.iter().enumerate().map(|(index, module)| (module.name.clone(), index)).collect();
        let builtin = builtin.lines().map(str::to_owned).collect();
        Self { modules, by_name, builtin, builtin_info }
    }

    /// Paths of the named modules and of all they need, in an order in which they can be loaded. Built-in ones are left out.
    pub(super) fn load_order(&self, names: &[&str]) -> Result<Vec<&str>, ModuleOrderError> {
        let mut order = Vec::new();
        for name in names {
            self.visit(&name.replace('-', "_"), &mut Vec::new(), &mut order)?;
        }
        Ok(order.into_iter().map(|index| self.modules[index].path.as_str()).collect())
    }

    fn visit(&self, name: &str, path: &mut Vec<usize>, order: &mut Vec<usize>) -> Result<(), ModuleOrderError> {
        let Some(index) = self.by_name.get(name).copied() else {
            // A kernel without that list is one of the user's: what is not a module of it is taken to be built in.
            let built_in = self.builtin.is_empty() || self.builtin.iter().any(|path| module_name(path) == name);
            return if built_in { Ok(()) } else { Err(ModuleOrderError::Missing { name: name.to_owned() }) };
        };
        if path.contains(&index) {
            return Err(ModuleOrderError::Circle { name: name.to_owned() });
        }
        if order.contains(&index) {
            return Ok(());
        }
        path.push(index);
        for needed in &self.modules[index].info.depends {
            self.visit(needed, path, order)?;
        }
        path.pop();
        order.push(index);
        Ok(())
    }

    /// The files `depmod` writes, by their names.
    pub(super) fn index_files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, ModuleOrderError> {
        let (dep, dep_bin) = self.dependencies()?;
        let (alias, alias_bin) = self.aliases();
        let (symbols, symbols_bin) = self.symbols();
        let mut softdep = String::from("# Soft dependencies extracted from modules themselves.\n");
        for module in &self.modules {
            for text in &module.info.softdeps {
                writeln!(softdep, "softdep {} {text}", module.name).expect("writing to a string does not fail");
            }
        }
        Ok(vec![
            ("modules.alias", alias.into_bytes()),
            ("modules.alias.bin", alias_bin),
            ("modules.builtin.alias.bin", self.builtin_aliases()),
            ("modules.builtin.bin", self.builtin_names()),
            ("modules.dep", dep.into_bytes()),
            ("modules.dep.bin", dep_bin),
            ("modules.devname", self.device_names().into_bytes()),
            ("modules.softdep", softdep.into_bytes()),
            ("modules.symbols", symbols.into_bytes()),
            ("modules.symbols.bin", symbols_bin),
        ])
    }

    /// `modprobe` loads the modules of a line from the last to the first.
    fn dependencies(&self) -> Result<(String, Vec<u8>), ModuleOrderError> {
        let mut text = String::new();
        let mut trie = IndexTrie::default();
        for (priority, module) in self.modules.iter().enumerate() {
            let mut needed = self.load_order(&[&module.name])?;
            needed.pop();
            let mut line = format!("{}:", module.path);
            for path in needed.iter().rev() {
                write!(line, " {path}").expect("writing to a string does not fail");
            }
            trie.insert(&module.name, &line, priority as u32);
            text.push_str(&line);
            text.push('\n');
        }
        Ok((text, trie.encode()))
    }

    fn aliases(&self) -> (String, Vec<u8>) {
        let mut text = String::from("# Aliases extracted from modules themselves.\n");
        let mut trie = IndexTrie::default();
        for (priority, module) in self.modules.iter().enumerate() {
            for alias in &module.info.aliases {
                writeln!(text, "alias {alias} {}", module.name).expect("writing to a string does not fail");
                trie.insert(&normalized(alias), &module.name, priority as u32);
            }
        }
        (text, trie.encode())
    }

    fn symbols(&self) -> (String, Vec<u8>) {
        let mut text = String::from("# Aliases for symbols, used by symbol_request().\n");
        let mut trie = IndexTrie::default();
        for (priority, module) in self.modules.iter().enumerate() {
            for symbol in &module.info.symbols {
                writeln!(text, "alias symbol:{symbol} {}", module.name).expect("writing to a string does not fail");
                trie.insert(&format!("symbol:{symbol}"), &module.name, priority as u32);
            }
        }
        (text, trie.encode())
    }

    fn builtin_names(&self) -> Vec<u8> {
        let mut trie = IndexTrie::default();
        for path in &self.builtin {
            trie.insert(&module_name(path), "", 0);
        }
        trie.encode()
    }

    fn builtin_aliases(&self) -> Vec<u8> {
        let mut trie = IndexTrie::default();
        for (key, alias) in module_file::strings(&self.builtin_info) {
            if let Some(name) = key.strip_suffix(".alias") {
                trie.insert(&normalized(alias), name, 0);
            }
        }
        trie.encode()
    }

    /// Device nodes whose opening loads a module: `fuse fuse c10:229`.
    fn device_names(&self) -> String {
        let mut text = String::from("# Device nodes to trigger on-demand module loading.\n");
        for module in &self.modules {
            let find = |prefix: &str| module.info.aliases.iter().find_map(|alias| alias.strip_prefix(prefix));
            let number =
                find("char-major-").map(|number| ('c', number)).or(find("block-major-").map(|number| ('b', number)));
            let (Some(device), Some((kind, number))) = (find("devname:"), number) else { continue };
            let Some((major, minor)) = number.split_once('-') else { continue };
            if minor.parse::<u32>().is_ok() {
                writeln!(text, "{} {device} {kind}{major}:{minor}", module.name)
                    .expect("writing to a string does not fail");
            }
        }
        text
    }
}

/// A key as kmod looks it up: `_` for `-`, except inside of brackets.
fn normalized(alias: &str) -> String {
    let mut inside = false;
    alias
        .chars()
        .map(|character| {
            match character {
                '[' => inside = true,
                ']' => inside = false,
                _ => {}
            }
            if character == '-' && !inside { '_' } else { character }
        })
        .collect()
}
