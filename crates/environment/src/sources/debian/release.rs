//! What a verified `Release` text says: which suite it is, until when it holds, and the hashes of its lists.

use std::collections::HashMap;

use super::deb822::stanzas;
use super::index::is_sha256;

/// A release, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `Suite`, such as `oldstable`.
    pub suite: String,
    /// `Codename`, such as `bookworm`.
    pub codename: String,
    /// `Date`, in seconds since 1970.
    pub date: u64,
    /// `Valid-Until`, in seconds since 1970.
    pub valid_until: Option<u64>,
    /// `Acquire-By-Hash`: lists can be fetched under the name of their hash.
    pub by_hash: bool,
    files: HashMap<String, ListedFile>,
}

/// A file that a release vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Its size.
    pub size_bytes: u64,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
}

/// A release text that breaks its own rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field} is missing or not valid")]
pub struct MalformedRelease {
    /// The field.
    pub field: &'static str,
}

impl Release {
    /// Reads a release text. Only ever give it text that a signature was verified for.
    ///
    /// # Errors
    /// [`MalformedRelease`]
    pub fn read(text: &str) -> Result<Self, MalformedRelease> {
        let malformed = |field| MalformedRelease { field };
        let mut all = stanzas(text);
        let stanza = all.next().filter(|_| all.next().is_none()).ok_or(malformed("Codename"))?;
        let mut fields = HashMap::new();
        for field in stanza.fields() {
            let (name, value) = field.map_err(|_| malformed("Codename"))?;
            fields.insert(name, value);
        }
        let field = |name| fields.get(name).copied();
        let valid_until = match field("Valid-Until") {
            None => None,
            Some(text) => Some(parse_date(text).ok_or(malformed("Valid-Until"))?),
        };
        Ok(Self {
            suite: field("Suite").unwrap_or_default().to_owned(),
            codename: field("Codename").unwrap_or_default().to_owned(),
            date: field("Date").and_then(parse_date).ok_or(malformed("Date"))?,
            valid_until,
            by_hash: field("Acquire-By-Hash") == Some("yes"),
            files: field("SHA256").and_then(parse_files).ok_or(malformed("SHA256"))?,
        })
    }

    /// The file at a path below the suite, such as `main/binary-amd64/Packages.xz`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&ListedFile> {
        self.files.get(path)
    }

    /// Whether it is the suite of that name.
    #[must_use]
    pub fn is_suite(&self, name: &str) -> bool {
        self.codename == name || self.suite == name
    }
}

fn parse_files(value: &str) -> Option<HashMap<String, ListedFile>> {
    let mut files = HashMap::new();
    for line in value.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (sha256, size, path) = (words.next()?, words.next()?, words.next()?);
        if !is_sha256(sha256) || words.next().is_some() {
            return None;
        }
        let file = ListedFile { size_bytes: size.parse().ok()?, sha256: sha256.to_owned() };
        // A path that is listed twice with different content is listed with neither.
        if files.insert(path.to_owned(), file.clone()).is_some_and(|known| known != file) {
            return None;
        }
    }
    Some(files)
}

/// Reads `Sat, 11 Jul 2026 10:16:37 UTC` into seconds since 1970.
fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split_whitespace();
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)?;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = words.next()?.splitn(3, ':').map(|part| part.parse::<u64>().ok().filter(|part| *part < 61));
    let seconds = (clock.next()?? * 60 + clock.next()??) * 60 + clock.next()??;
    if !matches!(words.next()?, "UTC" | "GMT" | "Z" | "+0000") || words.next().is_some() {
        return None;
    }
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before_month: u64 = lengths.iter().take(month).sum();
    let leap_days = (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 - 477;
    Some(((year - 1970) * 365 + leap_days + before_month + day - 1) * 86_400 + seconds)
}

/// A time as people read it: `2026-07-11 10:16 UTC`.
#[must_use]
pub fn show_date(seconds: u64) -> String {
    // Days since 0000-03-01, so that the day of a leap year comes last.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Release, parse_date, show_date};

    const TEXT: &str = "Origin: Debian\nSuite: oldstable-security\nCodename: bookworm-security\n\
        Date: Sat, 21 Nov 2026 00:53:02 UTC\nValid-Until: Sat, 28 Nov 2026 00:53:02 UTC\nAcquire-By-Hash: yes\nMD5Sum:\n x 1 a\n\
        SHA256:\n 0000000000000000000000000000000000000000000000000000000000000001    12 main/binary-amd64/Packages\n";

    #[test]
    fn what_matters_is_read() {
        let release = Release::read(TEXT).unwrap();
        assert!(release.is_suite("bookworm-security") && release.is_suite("oldstable-security") && release.by_hash);
        assert!(!release.is_suite("bookworm"));
        assert_eq!((release.date, release.valid_until), (1_795_222_382, Some(1_795_827_182)));
        assert_eq!(release.file("main/binary-amd64/Packages").unwrap().size_bytes, 12);
        assert!(release.file("main/binary-amd64/Packages.xz").is_none());
    }

    #[test]
    fn what_is_missing_or_not_valid_is_named() {
        let check = |from: &str, to: &str, field: &str| {
            let error = Release::read(&TEXT.replace(from, to)).unwrap_err();
            assert_eq!(error.field, field, "{to}");
        };
        check("Date: Sat, 21 Nov", "Date: Sat, 32 Nov", "Date");
        check("Date: ", "Other: ", "Date");
        check("Valid-Until: Sat, 28 Nov 2026", "Valid-Until: soon", "Valid-Until");
        check("SHA256:", "SHA512:", "SHA256");
        check("    12 ", " -1 ", "SHA256");
        check(" 00000", " 0000", "SHA256");
        check("Origin", "no field here\nOrigin", "Codename");
        check("Suite", "\nSuite", "Codename");
    }

    #[test]
    fn dates_are_read_and_shown() {
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(parse_date("Thu, 29 Feb 2024 12:34:56 UTC"), Some(1_709_210_096));
        assert_eq!(parse_date("Thu, 29 Feb 2024 12:34:56 CET"), None);
        assert_eq!(show_date(1_709_210_096), "2024-02-29 12:34 UTC");
        assert_eq!(show_date(0), "1970-01-01 00:00 UTC");
    }

    proptest! {
        #[test]
        fn a_shown_date_is_the_one_read(day in 1u64..29, month in 0usize..12, year in 1970u64..2200) {
            let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let seconds = parse_date(&format!("Mon, {day} {} {year} 01:02:03 UTC", names[month])).unwrap();
            prop_assert_eq!(show_date(seconds), format!("{year}-{:02}-{day:02} 01:02 UTC", month + 1));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "(Date|SHA256|Suite|: |, |[0-9a-f]|UTC|\\n){0,60}") {
            drop(Release::read(&text));
            prop_assert!(parse_date(&text).is_none());
        }
    }
}
