//! `config.toml`: found, read, its keys checked.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::{SettingsError, Variables};

/// Every key of `config.toml`, with its table.
const KEYS: [&str; 11] = [
    "accelerator",
    "cache_dir",
    "catalog",
    "debian.keyring",
    "debian.mirror",
    "debian.security_mirror",
    "debian.suites",
    "kernel.image",
    "kernel.modules",
    "qemu",
    "state_dir",
];

/// `config.toml`, its keys checked.
pub(super) struct Config {
    path: PathBuf,
    table: toml::Table,
}

impl Config {
    /// Reads the file, if there is one.
    pub(super) fn find(variables: &Variables<'_>) -> Result<Self, SettingsError> {
        // Without a home directory there is no configuration file either; what is missing then is said by who needs it.
        let Ok(dir) = variables.directory(["PYRO_CONFIG_DIR", "XDG_CONFIG_HOME", ".config"]) else {
            return Ok(Self { path: PathBuf::new(), table: toml::Table::new() });
        };
        let path = dir.join("config.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Self { path, table: toml::Table::new() })
            }
            Err(source) => Err(SettingsError::Unreadable { path, source }),
        }
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self, SettingsError> {
        let table = text.parse::<toml::Table>().map_err(|error| SettingsError::Syntax {
            path: path.clone(),
            line: error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
            reason: error.message().lines().next().unwrap_or("not TOML").to_owned(),
        })?;
        let config = Self { path, table };
        config.refuse_unknown_keys()?;
        Ok(config)
    }

    fn refuse_unknown_keys(&self) -> Result<(), SettingsError> {
        let tables: BTreeSet<&str> = KEYS.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
        for (key, value) in &self.table {
            match value.as_table() {
                Some(inner) if tables.contains(key.as_str()) => {
                    for inner_key in inner.keys() {
                        self.refuse_unknown(&format!("{key}.{inner_key}"))?;
                    }
                }
                // `kernel = "/path"` is short for `kernel.image`.
                None if key == "kernel" => {}
                _ => self.refuse_unknown(key)?,
            }
        }
        Ok(())
    }

    fn refuse_unknown(&self, key: &str) -> Result<(), SettingsError> {
        if KEYS.contains(&key) {
            return Ok(());
        }
        let known = crate::failure::nearest_first(key, KEYS);
        Err(SettingsError::UnknownKey { path: self.path.clone(), key: key.to_owned(), known })
    }

    /// The text at `key`.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, SettingsError> {
        let value = match key.split_once('.') {
            None => self.table.get(key),
            Some((table, inner)) => match self.table.get(table) {
                Some(toml::Value::Table(values)) => values.get(inner),
                short if key == "kernel.image" => short,
                _ => None,
            },
        };
        match value {
            None => Ok(None),
            Some(toml::Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(other) => Err(SettingsError::BadValue {
                origin: self.origin(key),
                value: shown(other),
                expected: "text in quotation marks",
            }),
        }
    }

    /// The absolute path at `key`.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, SettingsError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if Path::new(&text).is_absolute() {
            return Ok(Some(text.into()));
        }
        Err(SettingsError::BadValue { origin: self.origin(key), value: text, expected: "an absolute path" })
    }

    /// How an error names `key`.
    pub(super) fn origin(&self, key: &str) -> String {
        format!("{key} in {}", self.path.display())
    }
}

/// A value as an error shows it; what is inside a table or a list is not shown.
fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            format!("of type {}", value.type_str())
        }
    }
}
