//! A Debian archive made on the spot, with packages, lists and a signing key of its own: what tests install from.
//!
//! [`Deb`] builds a package file, [`SigningKey`] signs as an archive does, [`Archive`] lays both out as a mirror.

mod deb;
mod key;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

pub use deb::Deb;
pub use key::{SigningKey, armor};

use crate::http::Server;

/// One suite of an archive.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Its name under `dists/`, which is its codename.
    pub suite: String,
    /// Who signs it.
    pub key: SigningKey,
    /// Its packages.
    pub debs: Vec<Deb>,
    /// When it was made, in seconds since 1970.
    pub date: u64,
    /// Until when it may be used.
    pub valid_until: Option<u64>,
    /// Whether lists are also offered under the name of their hash.
    pub by_hash: bool,
    /// The form in which the package list is offered.
    pub list_form: ListForm,
}

/// How a package list is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListForm {
    /// `Packages.xz`
    Xz,
    /// `Packages.gz`
    Gzip,
    /// `Packages`
    Plain,
}

impl Archive {
    /// An empty suite, made now.
    #[must_use]
    pub fn new(suite: &str) -> Self {
        Self {
            suite: suite.to_owned(),
            key: SigningKey::new(),
            debs: Vec::new(),
            date: now(),
            valid_until: None,
            by_hash: true,
            list_form: ListForm::Xz,
        }
    }

    /// With one more package.
    #[must_use]
    pub fn with(mut self, deb: Deb) -> Self {
        self.debs.push(deb);
        self
    }

    /// Every file of the mirror: its path below the base, with a slash in front, and its content.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut list = String::new();
        for deb in &self.debs {
            let content = deb.build();
            let path = deb.pool_path();
            list.push_str(&deb.stanza(&content));
            files.insert(format!("/{path}"), content);
        }
        let packed = self.pack(list.as_bytes());
        let release = self.release(list.as_bytes(), &packed);
        let base = format!("/dists/{}", self.suite);
        if self.by_hash {
            files.insert(format!("{base}/main/binary-amd64/by-hash/SHA256/{}", sha256(&packed)), packed.clone());
        }
        files.insert(format!("{base}/{}", self.list_path()), packed);
        files.insert(format!("{base}/InRelease"), self.key.sign_cleartext(&release, self.date).into_bytes());
        files
    }

    /// Serves it; `prefix` is the path of its base.
    pub fn serve(&self, server: &Server, prefix: &str) {
        for (path, content) in self.files() {
            server.put(&format!("{prefix}{path}"), content);
        }
    }

    /// Path of the package list below `dists/<suite>`.
    #[must_use]
    pub fn list_path(&self) -> &'static str {
        match self.list_form {
            ListForm::Xz => "main/binary-amd64/Packages.xz",
            ListForm::Gzip => "main/binary-amd64/Packages.gz",
            ListForm::Plain => "main/binary-amd64/Packages",
        }
    }

    /// The text that is signed.
    #[must_use]
    pub fn release(&self, list: &[u8], packed: &[u8]) -> String {
        let suite = &self.suite;
        let mut text = format!("Origin: Test\nLabel: Test\nSuite: {suite}\nCodename: {suite}\n");
        text.push_str(&format!("Date: {}\n", date_text(self.date)));
        if let Some(until) = self.valid_until {
            text.push_str(&format!("Valid-Until: {}\n", date_text(until)));
        }
        if self.by_hash {
            text.push_str("Acquire-By-Hash: yes\n");
        }
        text.push_str(
            "Architectures: amd64\nComponents: main\nDescription: an archive of tests\n - with a dash\nSHA256:\n",
        );
        text.push_str(&format!(" {} {} main/binary-amd64/Packages\n", sha256(list), list.len()));
        if self.list_form != ListForm::Plain {
            text.push_str(&format!(" {} {} {}\n", sha256(packed), packed.len(), self.list_path()));
        }
        text
    }

    fn pack(&self, list: &[u8]) -> Vec<u8> {
        match self.list_form {
            ListForm::Xz => xz(list),
            ListForm::Gzip => gzip(list),
            ListForm::Plain => list.to_vec(),
        }
    }
}

/// Now, in seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("this clock is past 1970").as_secs()
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory can be written to")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory can be written to")
}

/// A time as a `Release` file writes it.
fn date_text(seconds: u64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let days = seconds / 86_400;
    let weekday = WEEKDAYS[usize::try_from(days % 7).expect("less than 7")];
    let (mut year, mut rest) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{second:02} UTC", rest + 1, MONTHS[month])
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_written_as_archives_do() {
        assert_eq!(super::date_text(0), "Thu, 01 Jan 1970 00:00:00 UTC");
        assert_eq!(super::date_text(1_783_764_997), "Sat, 11 Jul 2026 10:16:37 UTC");
        assert_eq!(super::date_text(1_709_210_096), "Thu, 29 Feb 2024 12:34:56 UTC");
    }
}
