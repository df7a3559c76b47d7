//! What a person, or a model, should know of a seed: what was left out of it, and what was kept though it looks secret.

use pyro_engine::workspace::seed::{About, SeedNotes};
use serde::Serialize;

use super::clean::one_line;

/// Names in the text of one note.
const NAMED_MAX: usize = 5;

/// Characters of a name in the text of a note.
const NAME_CHARS_MAX: usize = 200;

/// Notes of one kind.
#[derive(Debug, Serialize)]
pub(crate) struct NoteReport {
    /// What they are about, as one word for programs.
    about: &'static str,
    /// How many there are.
    count: u64,
    /// In words, with the first of the names.
    note: String,
    /// The first hundred of the paths, in the seed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<String>,
}

impl NoteReport {
    /// All notes of a seed.
    pub(crate) fn of(notes: &SeedNotes) -> Vec<Self> {
        let of_group = |(about, count, named): (About, u64, Vec<_>)| {
            let named: Vec<&pyro_engine::workspace::seed::SeedNote> = named;
            let paths: Vec<String> = named
                .iter()
                .filter(|note| !note.path.is_empty())
                .map(|note| String::from_utf8_lossy(&note.path).into_owned())
                .collect();
            let (word, words) = words(about);
            let mut shown: Vec<String> = paths.iter().take(NAMED_MAX).map(|path| short(path)).collect();
            if shown.is_empty() {
                shown.extend(
                    named.iter().map(|note| one_line(&note.detail)).filter(|detail| !detail.is_empty()).take(1),
                );
            }
            if count > NAMED_MAX as u64 {
                shown.push("…".to_owned());
            }
            let list = if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) };
            Self { about: word, count, note: format!("{words} ({count}){list}"), paths }
        };
        notes.groups().map(of_group).collect()
    }

    /// The note without the list of paths: enough for a model, whatever the paths are.
    pub(crate) fn without_paths(self) -> Self {
        Self { paths: Vec::new(), ..self }
    }

    /// The note in words.
    pub(crate) fn line(&self) -> &str {
        &self.note
    }
}

/// A path as part of a line.
fn short(path: &str) -> String {
    let line = one_line(path);
    match line.char_indices().nth(NAME_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn words(about: About) -> (&'static str, &'static str) {
    match about {
        About::SecretLeftOut => ("secret_left_out", "left out what looks secret; --seed-secrets takes it along"),
        About::SecretKept => ("secret_kept", "took along what looks secret"),
        About::CredentialsLeftOut => ("credentials_left_out", "left credentials out of the git configuration"),
        About::SpecialLeftOut => ("special_left_out", "left out sockets, devices and pipes"),
        About::Unreadable => ("unreadable", "left out what cannot be read"),
        About::Changed => ("changed", "changed while it was read"),
        About::TooDeep => ("too_deep", "left out what lies too deep"),
        About::EntryRefused => ("entry_refused", "left out of the archive"),
        About::RulesUnread => ("rules_unread", "did not read these rules of what to ignore"),
        About::IndexUnread => ("index_unread", "did not read the git index; tracked but ignored files may be missing"),
        About::PartOfRepository => {
            ("part_of_repository", "took a part of a repository, without its history; seed its top directory for that")
        }
        About::RepositoryNotFollowed => ("repository_not_followed", "did not follow a repository's data to"),
        About::RepositoryMadeWhole => ("repository_made_whole", "made a worktree or submodule a repository of its own"),
        About::ObjectsBorrowed => ("objects_borrowed", "put borrowed git objects into the repository"),
        About::HooksLeftOut => ("hooks_left_out", "left out the hooks of git; --seed-all takes them along"),
    }
}
