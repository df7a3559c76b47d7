//! `dpkg`'s database, in the state it has after `dpkg --unpack` of all packages.
//!
//! A package without a `postinst` is entered as installed at once: configuring it would do nothing but activate triggers,
//! and the packages those belong to are configured after everything is unpacked, which does their whole work.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::deb::ControlFile;
use super::super::ext4::{Attributes, Ext4Error, Formatter};
use super::super::package::Package;
use super::super::sources::debian::deb822;
use super::RootfsError;
use super::own_files::put;

const DATABASE: &str = "var/lib/dpkg";

/// A package on its way into the database.
#[derive(Debug)]
pub(super) struct PackageRecord {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) replaces: String,
    /// Paths as the package has them, without the leading slash; the root is empty.
    pub(super) list: Vec<Vec<u8>>,
    /// Name of its files under `info`: with the architecture where several can be installed together.
    pub(super) info_name: String,
    /// The `control` file's text.
    control: String,
    files: Vec<ControlFile>,
    /// Configuration files, without the leading slash, in their order, and the MD5 sum of each once it is known.
    conffiles: Vec<(String, Option<String>)>,
}

impl PackageRecord {
    pub(super) fn new(package: &Package, files: Vec<ControlFile>) -> Result<Self, RootfsError> {
        let malformed = |what: &str| RootfsError::Control { package: package.name.clone(), what: what.to_owned() };
        let text = |name: &str| -> Result<Option<String>, RootfsError> {
            let Some(file) = files.iter().find(|file| file.name == name) else { return Ok(None) };
            let text = String::from_utf8(file.bytes.clone()).map_err(|_| malformed("it is not UTF-8"))?;
            Ok(Some(text))
        };
        let control = text("control")?.ok_or_else(|| malformed("there is none"))?;
        let fields = fields(&control).map_err(|what| malformed(&what))?;
        let field = |name: &str| fields.get(&name.to_ascii_lowercase()).cloned().unwrap_or_default();
        if field("Package") != package.name || field("Version") != package.version {
            return Err(malformed("it is of another package or version than the archive says"));
        }
        let several = field("Multi-Arch") == "same";
        let info_name =
            if several { format!("{}:{}", package.name, field("Architecture")) } else { package.name.clone() };
        let conffiles = text("conffiles")?.unwrap_or_default();
        let conffiles = conffiles
            .lines()
            .filter_map(|line| line.trim().strip_prefix('/'))
            .map(|path| (path.to_owned(), None))
            .collect();
        let replaces = field("Replaces");
        let (name, version) = (package.name.clone(), package.version.clone());
        Ok(Self { name, version, replaces, list: Vec::new(), info_name, control, files, conffiles })
    }

    pub(super) fn is_conffile(&self, path: &[u8]) -> bool {
        self.conffiles.iter().any(|(conffile, _)| conffile.as_bytes() == path)
    }

    pub(super) fn set_conffile_digest(&mut self, path: &[u8], digest: String) {
        for (_, known) in self.conffiles.iter_mut().filter(|(conffile, _)| conffile.as_bytes() == path) {
            *known = Some(digest.clone());
        }
    }

    pub(super) fn needs_configure(&self) -> bool {
        self.files.iter().any(|file| file.name == "postinst")
    }

    /// Whether the `preinst` can do anything on a first installation. The helper that most of them only call acts when
    /// an older version was there before, and does nothing here.
    pub(super) fn needs_preinst(&self) -> bool {
        let idle = |line: &str| {
            let line = line.trim();
            line.is_empty()
                || line.starts_with('#')
                || matches!(line, "set -e" | "set -eu" | "exit 0")
                || (line.starts_with("dpkg-maintscript-helper ") && line.ends_with("-- \"$@\""))
        };
        let preinst = self.files.iter().find(|file| file.name == "preinst");
        preinst.is_some_and(|file| !String::from_utf8_lossy(&file.bytes).lines().all(idle))
    }

    fn status_stanza(&self) -> String {
        let state = if self.needs_configure() { "unpacked" } else { "installed" };
        let mut stanza = String::new();
        for line in self.control.trim_end().lines().filter(|line| !line.is_empty()) {
            stanza.push_str(line);
            stanza.push('\n');
            if line.starts_with("Package:") {
                writeln!(stanza, "Status: install ok {state}").expect("writing to a string does not fail");
            }
        }
        if !self.conffiles.is_empty() {
            stanza.push_str("Conffiles:\n");
            for (path, digest) in &self.conffiles {
                let digest = digest.as_deref().unwrap_or("newconffile");
                writeln!(stanza, " /{path} {digest}").expect("writing to a string does not fail");
            }
        }
        stanza.push('\n');
        stanza
    }

    fn list_text(&self) -> Vec<u8> {
        let line = |path: &Vec<u8>| match path.is_empty() {
            true => b"/.\n".to_vec(),
            false => [b"/", &path[..], b"\n"].concat(),
        };
        self.list.iter().flat_map(line).collect()
    }
}

/// Writes the database.
pub(super) fn write(formatter: &mut Formatter, records: &[PackageRecord], time_seconds: i64) -> Result<(), Ext4Error> {
    let plain = Attributes::of_root(0o644, time_seconds);
    let program = Attributes::of_root(0o755, time_seconds);
    let status: String = records.iter().map(PackageRecord::status_stanza).collect();
    put(formatter, &format!("{DATABASE}/status"), plain, status.as_bytes())?;
    for name in ["available", "diversions", "statoverride"] {
        put(formatter, &format!("{DATABASE}/{name}"), plain, b"")?;
    }
    put(formatter, &format!("{DATABASE}/info/format"), plain, b"1\n")?;
    for record in records {
        put(formatter, &format!("{DATABASE}/info/{}.list", record.info_name), plain, &record.list_text())?;
        for file in record.files.iter().filter(|file| file.name != "control") {
            let attributes = if file.executable { program } else { plain };
            put(formatter, &format!("{DATABASE}/info/{}.{}", record.info_name, file.name), attributes, &file.bytes)?;
        }
    }
    for (name, text) in interests(records) {
        put(formatter, &format!("{DATABASE}/triggers/{name}"), plain, text.as_bytes())?;
    }
    for directory in ["alternatives", "parts", "updates"] {
        let path = format!("{DATABASE}/{directory}");
        if formatter.kind_at(path.as_bytes())?.is_none() {
            formatter.add_directory(path.as_bytes(), program)?;
        }
    }
    Ok(())
}

/// Who wants to hear of which trigger: a file a name, and one for all paths.
fn interests(records: &[PackageRecord]) -> BTreeMap<String, String> {
    let mut interests: BTreeMap<String, String> =
        ["File", "Unincorp"].into_iter().map(|name| (name.to_owned(), String::new())).collect();
    for record in records {
        let Some(file) = record.files.iter().find(|file| file.name == "triggers") else { continue };
        for line in String::from_utf8_lossy(&file.bytes).lines() {
            let mut words = line.split_whitespace();
            let (Some(directive), Some(trigger)) = (words.next(), words.next()) else { continue };
            let suffix = match directive {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => continue,
            };
            let entry = match trigger.starts_with('/') {
                true => ("File".to_owned(), format!("{trigger} {}{suffix}\n", record.info_name)),
                false => (trigger.to_owned(), format!("{}{suffix}\n", record.info_name)),
            };
            interests.entry(entry.0).or_default().push_str(&entry.1);
        }
    }
    interests
}

/// The fields of a control file by their names in lower case.
fn fields(control: &str) -> Result<BTreeMap<String, String>, String> {
    let stanza = deb822::stanzas(control).next().ok_or("it is empty")?;
    let mut fields = BTreeMap::new();
    for field in stanza.fields() {
        let (name, value) = field.map_err(|error| error.to_string())?;
        fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(fields)
}
