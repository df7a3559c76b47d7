//! What a person should know of a seed: what was left out, what was kept though it looks secret, what was made whole.

use std::collections::BTreeMap;

/// Notes that are kept of each kind; of the others only the number is.
const NAMED_MAX: u64 = 100;
/// Bytes of a detail.
const DETAIL_BYTES_MAX: usize = 400;

/// The notes of one seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeedNotes {
    named: Vec<SeedNote>,
    counts: BTreeMap<About, u64>,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedNote {
    /// What it is about.
    pub about: About,
    /// The path in the seed; empty for the whole of it.
    pub path: Vec<u8>,
    /// More of it: a reason, a path of the host.
    pub detail: String,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// It looks secret and was left out; the detail says what it looks like.
    SecretLeftOut,
    /// It looks secret and is in the seed, as git tracks it, an archive has it, or the caller asked for it.
    SecretKept,
    /// User names, passwords or tokens in a git configuration were left out; the detail names the keys.
    CredentialsLeftOut,
    /// A socket, a device or a named pipe was left out; the detail says which.
    SpecialLeftOut,
    /// It cannot be read and was left out, or is empty in the case of a directory; the detail is the cause.
    Unreadable,
    /// It changed or vanished while it was read.
    Changed,
    /// It lies deeper than pyro goes, and was left out.
    TooDeep,
    /// An entry of an archive was left out; the detail says why.
    EntryRefused,
    /// Rules of what to ignore were not read; the detail is the cause.
    RulesUnread,
    /// The index of a repository was not read, so that tracked but ignored files may be missing; the detail is the cause.
    IndexUnread,
    /// The seed is a part of a repository, whose history is not in it; the detail is the repository's place.
    PartOfRepository,
    /// A repository's data lies elsewhere and was not followed there; the detail is the place.
    RepositoryNotFollowed,
    /// A repository's data lay elsewhere (a worktree, a submodule) and was put where it belongs; the detail is the place.
    RepositoryMadeWhole,
    /// Objects that a repository borrows were put into it; the detail is the place.
    ObjectsBorrowed,
    /// Hooks of a repository were left out.
    HooksLeftOut,
}

impl SeedNotes {
    /// Adds one.
    pub fn add(&mut self, about: About, path: &[u8], detail: impl Into<String>) {
        let count = self.counts.entry(about).or_default();
        *count += 1;
        if *count <= NAMED_MAX {
            let mut detail = detail.into();
            detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
            self.named.push(SeedNote { about, path: path.to_vec(), detail });
        }
    }

    /// The kinds of notes there are, with their number and the first of them.
    pub fn groups(&self) -> impl Iterator<Item = (About, u64, Vec<&SeedNote>)> {
        let named = |about| self.named.iter().filter(|note| note.about == about).collect();
        self.counts.iter().map(move |(about, count)| (*about, *count, named(*about)))
    }

    /// How many notes there are of a kind.
    #[must_use]
    pub fn count(&self, about: About) -> u64 {
        self.counts.get(&about).copied().unwrap_or_default()
    }

    /// Takes over the notes of a later step; of those that are only counted, the number.
    pub fn extend(&mut self, later: Self) {
        let unnamed: Vec<(About, u64)> =
            later.groups().map(|(about, count, named)| (about, count - named.len() as u64)).collect();
        for note in later.named {
            self.add(note.about, &note.path, note.detail);
        }
        for (about, count) in unnamed {
            *self.counts.entry(about).or_default() += count;
        }
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{About, SeedNotes};

    #[test]
    fn all_are_counted_and_some_are_named() {
        let mut notes = SeedNotes::default();
        for index in 0..250 {
            notes.add(About::Unreadable, format!("file-{index}").as_bytes(), "ä".repeat(400));
        }
        notes.add(About::SpecialLeftOut, b"socket", "a socket");
        let groups: Vec<_> = notes.groups().map(|(about, count, named)| (about, count, named.len())).collect();
        assert_eq!(groups, [(About::SpecialLeftOut, 1, 1), (About::Unreadable, 250, 100)]);
        assert!(notes.groups().all(|(_, _, named)| named[0].detail.len() <= 400));
    }
}
