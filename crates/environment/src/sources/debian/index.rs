//! A `Packages` file: one stanza a package. Keeps what resolving and downloading need and borrows it from the text.

use super::deb822::{MalformedStanza, Stanza, stanzas};
use super::relation::is_name;

/// What the archive says of one package file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// `Package`
    pub name: &'a str,
    /// `Version`
    pub version: &'a str,
    /// `Architecture`: `amd64` or `all`.
    pub architecture: &'a str,
    /// `Filename`: relative to the archive's base, with no way out of it.
    pub filename: &'a str,
    /// `Size`
    pub size_bytes: u64,
    /// `SHA256`: 64 lower-case hex digits.
    pub sha256: &'a str,
    /// `Essential: yes`
    pub essential: bool,
    /// `Priority`, from the most needed one.
    pub priority: Priority,
    /// `Multi-Arch: allowed`: other packages may depend on it as `name:any`.
    pub any_architecture: bool,
    /// `Pre-Depends`
    pub pre_depends: &'a str,
    /// `Depends`
    pub depends: &'a str,
    /// `Provides`
    pub provides: &'a str,
    /// `Conflicts`
    pub conflicts: &'a str,
    /// `Breaks`
    pub breaks: &'a str,
    /// The whole stanza.
    pub stanza: Stanza<'a>,
}

/// How much a system needs a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// `required`
    Required,
    /// `important`
    Important,
    /// `standard`
    Standard,
    /// `optional`, and what is not known.
    Optional,
    /// `extra`
    Extra,
}

/// A `Packages` file that breaks its own rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedIndex {
    /// A stanza is not in the control format.
    #[error("package {package}")]
    Stanza {
        /// The package, as far as it is known.
        package: String,
        /// The cause.
        #[source]
        source: MalformedStanza,
    },
    /// A field that must be there is not, or says what it must not.
    #[error("package {package}: field {field} is missing or not valid")]
    Field {
        /// The package, as far as it is known.
        package: String,
        /// The field.
        field: &'static str,
    },
}

/// Reads a `Packages` file. Packages of other architectures than amd64 are left out.
///
/// # Errors
/// [`MalformedIndex`] at the first stanza that is not valid: the file is signed, so something is wrong with the archive.
pub fn parse(text: &str) -> Result<Vec<Record<'_>>, MalformedIndex> {
    let mut records = Vec::new();
    for stanza in stanzas(text) {
        let record = parse_record(stanza)?;
        if matches!(record.architecture, "amd64" | "all") {
            records.push(record);
        }
    }
    Ok(records)
}

fn parse_record(stanza: Stanza<'_>) -> Result<Record<'_>, MalformedIndex> {
    let mut record = blank(stanza);
    let mut size = None;
    for field in stanza.fields() {
        let (name, value) =
            field.map_err(|source| MalformedIndex::Stanza { package: record.name.to_owned(), source })?;
        match name {
            "Package" => record.name = value,
            "Version" => record.version = value,
            "Architecture" => record.architecture = value,
            "Filename" => record.filename = value,
            "Size" => size = value.parse().ok(),
            "SHA256" => record.sha256 = value,
            "Essential" => record.essential = value == "yes",
            "Priority" => record.priority = parse_priority(value),
            "Multi-Arch" => record.any_architecture = value == "allowed",
            "Pre-Depends" => record.pre_depends = value,
            "Depends" => record.depends = value,
            "Provides" => record.provides = value,
            "Conflicts" => record.conflicts = value,
            "Breaks" => record.breaks = value,
            _ => {}
        }
    }
    let package = if record.name.is_empty() { "without a name" } else { record.name };
    let demand = |field, good: bool| {
        if good { Ok(()) } else { Err(MalformedIndex::Field { package: package.chars().take(60).collect(), field }) }
    };
    demand("Package", is_name(record.name))?;
    demand("Version", is_version(record.version))?;
    demand("Architecture", is_name(record.architecture))?;
    demand("Filename", is_inside(record.filename))?;
    demand("SHA256", is_sha256(record.sha256))?;
    demand("Size", size.is_some())?;
    record.size_bytes = size.unwrap_or_default();
    Ok(record)
}

fn blank(stanza: Stanza<'_>) -> Record<'_> {
    Record {
        name: "",
        version: "",
        architecture: "",
        filename: "",
        size_bytes: 0,
        sha256: "",
        essential: false,
        priority: Priority::Optional,
        any_architecture: false,
        pre_depends: "",
        depends: "",
        provides: "",
        conflicts: "",
        breaks: "",
        stanza,
    }
}

fn parse_priority(text: &str) -> Priority {
    match text {
        "required" => Priority::Required,
        "important" => Priority::Important,
        "standard" => Priority::Standard,
        "extra" => Priority::Extra,
        _ => Priority::Optional,
    }
}

fn is_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.:~_".contains(&byte))
}

/// Whether a path stays below the archive's base when it is appended to its URL.
fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\?#".contains(&byte))
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Whether a text is a SHA-256 in lower-case hex.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MalformedIndex, Priority, parse};

    fn stanza(change: impl Fn(&str) -> Option<String>) -> String {
        let sha256 = "0".repeat(64);
        let fields = [
            ("Package", "git"),
            ("Essential", "yes"),
            ("Version", "1:2.39.5-0+deb12u2"),
            ("Priority", "required"),
            ("Architecture", "amd64"),
            ("Multi-Arch", "allowed"),
            ("Depends", "libc6 (>= 2.36)"),
            ("Filename", "pool/main/g/git/git_2.39.5-0+deb12u2_amd64.deb"),
            ("Size", "7260"),
            ("SHA256", &sha256),
        ];
        fields
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", change(name).unwrap_or((*value).to_owned())))
            .collect()
    }

    #[test]
    fn what_resolving_needs_is_read() {
        let text = stanza(|_| None);
        let records = parse(&text).unwrap();
        let record = records[0];
        assert_eq!((record.name, record.version, record.size_bytes), ("git", "1:2.39.5-0+deb12u2", 7260));
        assert!(record.essential && record.any_architecture && record.priority == Priority::Required);
        assert_eq!(record.stanza.fields().count(), 10);
    }

    #[test]
    fn other_architectures_are_left_out() {
        let text = stanza(|name| (name == "Architecture").then(|| "arm64".to_owned()));
        assert!(parse(&text).unwrap().is_empty());
    }

    #[test]
    fn fields_that_could_do_harm_are_refused() {
        let bad = [
            ("Package", "../x"),
            ("Version", "1 2"),
            ("Filename", "../../etc/passwd"),
            ("Filename", "/etc/passwd"),
            ("Filename", "a//b"),
            ("Filename", "a?b"),
            ("Filename", ""),
            ("SHA256", "abc"),
            ("Size", "-1"),
            ("Size", "x"),
        ];
        for (wanted, value) in bad {
            let text = stanza(|name| (name == wanted).then(|| value.to_owned()));
            let Err(MalformedIndex::Field { field, .. }) = parse(&text) else { panic!("{wanted}: {value}") };
            assert_eq!(field, wanted);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(Package|Version|Size|SHA256|: |[a-z0-9]|\\n){0,60}") {
            drop(parse(&text));
        }
    }
}
