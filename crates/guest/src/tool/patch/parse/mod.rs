//! Reading a patch: what `git diff` prints, and what people and models send in its place.
//!
//! Read are git's own headers (new, deleted, mode, rename, copy) and plain `---`/`+++` ones, quoted names, text around the
//! patch. Beyond what `git apply` takes: a hunk whose line counts are wrong is counted anew, as `git apply --recount` does;
//! a header without numbers (`@@`) is a hunk that must fit in one place only; the last line may lack its end; empty
//! context lines may lack their space; lines may have got carriage returns on their way. Prefixes other than `a/`
//! and `b/` are known, and none at all.

use std::borrow::Cow;

use super::names::{self, Name, Stripped};

/// A patch that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the patch: {problem}")]
pub(super) struct SyntaxError {
    /// Which line of the patch, counted from one.
    pub(super) line: usize,
    pub(super) problem: Problem,
}

/// What is wrong with a patch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("nothing in it changes a file")]
    Empty,
    #[error("this is the form of another tool; send what `git diff` prints, with ---, +++ and @@ lines")]
    OtherForm,
    #[error("a hunk without the --- and +++ lines of its file before it")]
    HunkWithoutFile,
    #[error("a file's name cannot be read")]
    Name,
    #[error("the names of the file contradict each other")]
    Names,
    #[error("a mode of a file cannot be read")]
    Mode,
    #[error("the numbers of a hunk's header cannot be read")]
    Numbers,
    #[error("the hunk of {0} that begins here changes nothing; the patch may have been cut off")]
    NoChange(String),
    #[error("a line of a hunk begins with none of ' ', '+' and '-'")]
    HunkLine,
    #[error("{0} is binary, which a patch cannot change here; write the file whole")]
    Binary(String),
    #[error("{0} is a submodule, which a patch cannot change here")]
    Submodule(String),
    #[error("a new file whose hunk has lines of an old one")]
    NewWithOld,
    #[error("a deleted file whose hunk has new lines")]
    DeletedWithNew,
}

/// What a patch does to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePatch<'a> {
    /// What it is made of; `None` for a new file.
    pub(super) old: Name,
    /// What it becomes; `None` for a file that goes.
    pub(super) new: Name,
    pub(super) origin: Origin,
    pub(super) old_mode: Option<GitMode>,
    pub(super) new_mode: Option<GitMode>,
    pub(super) hunks: Vec<Hunk<'a>>,
    /// The names can be read with one part less.
    pub(super) unsure_names: bool,
    /// The header's own lines end in a carriage return, so that the patch has got them on its way.
    pub(super) carriage_returns: bool,
    /// Nothing says that the file is there already, or is not.
    pub(super) may_be_new: bool,
}

/// Where a file's content comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From the file itself, or from nothing.
    Own,
    Renamed,
    Copied,
}

/// The kinds of file in a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitMode {
    File,
    Executable,
    Link,
}

/// One hunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hunk<'a> {
    /// Its header as it stands there.
    pub(super) header: &'a [u8],
    /// Where it says that it belongs.
    pub(super) place: Option<Place>,
    pub(super) lines: Vec<Line<'a>>,
}

/// The first lines of a hunk's two sides, counted from one; zero before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) old: u64,
    pub(super) new: u64,
}

/// A line of a hunk, with its end unless it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) sign: Sign,
    pub(super) text: Cow<'a, [u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Context,
    Removed,
    Added,
}

/// Reads a patch, whose last line has its end.
pub(super) fn parse(patch: &[u8]) -> Result<Vec<FilePatch<'_>>, SyntaxError> {
    let mut parser = Parser { lines: patch.split_inclusive(|byte| *byte == b'\n').collect(), at: 0, file_at: 0 };
    let mut files = Vec::new();
    while let Some(line) = parser.peek() {
        parser.file_at = parser.at;
        if line.starts_with(b"diff --git ") {
            files.extend(parser.git_file()?);
        } else if parser.at_plain_header(parser.at) {
            files.push(parser.plain_file()?);
        } else if line.starts_with(b"@@ ") || line.trim_ascii_end() == b"@@" {
            return Err(parser.error(Problem::HunkWithoutFile));
        } else if line.starts_with(b"*** Begin Patch") {
            return Err(parser.error(Problem::OtherForm));
        } else {
            parser.at += 1;
        }
    }
    if files.is_empty() { Err(SyntaxError { line: 1, problem: Problem::Empty }) } else { Ok(files) }
}

struct Parser<'a> {
    lines: Vec<&'a [u8]>,
    at: usize,
    /// Where the file begins that is being read.
    file_at: usize,
}

/// What the headers of one file say.
#[derive(Default)]
struct Headers {
    old: Option<Name>,
    new: Option<Name>,
    moved_from: Name,
    moved_to: Name,
    copied: bool,
    is_git: bool,
    is_new: bool,
    is_deleted: bool,
    old_mode: Option<u32>,
    new_mode: Option<u32>,
    carriage_returns: bool,
}

impl Headers {
    /// What the file is called, for people.
    fn called(&self, both: Option<&(Vec<u8>, Vec<u8>)>) -> String {
        let (old, new) = match (&self.old, &self.new, both) {
            (Some(old), Some(new), _) => (old.clone(), new.clone()),
            (_, _, Some((old, new))) => (Some(old.clone()), Some(new.clone())),
            _ => (None, None),
        };
        let Stripped { old, new, .. } = names::strip(old, new);
        super::super::shown(new.or(old).as_deref().unwrap_or_default())
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a [u8]> {
        self.lines.get(self.at).copied()
    }

    fn error(&self, problem: Problem) -> SyntaxError {
        SyntaxError { line: self.at + 1, problem }
    }

    fn file_error(&self, problem: Problem) -> SyntaxError {
        SyntaxError { line: self.file_at + 1, problem }
    }

    /// Whether a file's plain header begins at a line: two names, then a hunk.
    fn at_plain_header(&self, at: usize) -> bool {
        let starts =
            |ahead: usize, prefix: &[u8]| self.lines.get(at + ahead).is_some_and(|line| line.starts_with(prefix));
        starts(0, b"--- ") && starts(1, b"+++ ") && starts(2, b"@@")
    }

    fn plain_file(&mut self) -> Result<FilePatch<'a>, SyntaxError> {
        let mut headers = Headers::default();
        self.names(&mut headers)?;
        let hunks = self.hunks(&headers.called(None))?;
        self.assemble(headers, None, hunks)
    }

    /// Reads the `---` and `+++` lines.
    fn names(&mut self, headers: &mut Headers) -> Result<(), SyntaxError> {
        for (prefix, name) in [(b"--- ", &mut headers.old), (b"+++ ", &mut headers.new)] {
            let text =
                self.peek().and_then(|line| line.strip_prefix(prefix)).ok_or_else(|| self.error(Problem::Name))?;
            headers.carriage_returns |= text.ends_with(b"\r\n");
            *name = Some(names::read(text).ok_or_else(|| self.error(Problem::Name))?);
            self.at += 1;
        }
        Ok(())
    }

    /// Reads a file that begins with `diff --git`. One that changes nothing is passed over.
    fn git_file(&mut self) -> Result<Option<FilePatch<'a>>, SyntaxError> {
        let first = self.peek().and_then(|line| line.strip_prefix(b"diff --git ")).unwrap_or_default();
        let both = names::read_both(first);
        let mut headers = Headers { is_git: true, carriage_returns: first.ends_with(b"\r\n"), ..Headers::default() };
        self.at += 1;
        while let Some(line) = self.peek() {
            if line.starts_with(b"--- ") && self.lines.get(self.at + 1).is_some_and(|next| next.starts_with(b"+++ ")) {
                self.names(&mut headers)?;
                break;
            }
            if !self.extended(line, &mut headers)? {
                break;
            }
            self.at += 1;
        }
        if self.peek().is_some_and(is_binary_mark) {
            return Err(self.file_error(Problem::Binary(headers.called(both.as_ref()))));
        }
        let hunks = self.hunks(&headers.called(both.as_ref()))?;
        let says_something = headers.is_new || headers.is_deleted || headers.moved_from.is_some();
        let mode_stays = headers.new_mode.is_none() || headers.new_mode == headers.old_mode;
        if hunks.is_empty() && !says_something && mode_stays {
            return Ok(None);
        }
        self.assemble(headers, both, hunks).map(Some)
    }

    /// Reads one of git's own header lines; whether it was one.
    fn extended(&self, line: &[u8], headers: &mut Headers) -> Result<bool, SyntaxError> {
        let mode = |text: &[u8]| parse_mode(text).map(Some).ok_or_else(|| self.error(Problem::Mode));
        let name = |text: &[u8]| match names::read(text) {
            Some(Some(name)) => Ok(names::relative(name)),
            _ => Err(self.error(Problem::Name)),
        };
        if let Some(text) = line.strip_prefix(b"old mode ") {
            headers.old_mode = mode(text)?;
        } else if let Some(text) = line.strip_prefix(b"new mode ") {
            headers.new_mode = mode(text)?;
        } else if let Some(text) = line.strip_prefix(b"new file mode ") {
            (headers.is_new, headers.new_mode) = (true, mode(text)?);
        } else if let Some(text) = line.strip_prefix(b"deleted file mode ") {
            (headers.is_deleted, headers.old_mode) = (true, mode(text)?);
        } else if let Some(text) = line.strip_prefix(b"rename from ").or(line.strip_prefix(b"rename old ")) {
            headers.moved_from = Some(name(text)?);
        } else if let Some(text) = line.strip_prefix(b"rename to ").or(line.strip_prefix(b"rename new ")) {
            headers.moved_to = Some(name(text)?);
        } else if let Some(text) = line.strip_prefix(b"copy from ") {
            (headers.copied, headers.moved_from) = (true, Some(name(text)?));
        } else if let Some(text) = line.strip_prefix(b"copy to ") {
            (headers.copied, headers.moved_to) = (true, Some(name(text)?));
        } else if let Some(text) = line.strip_prefix(b"index ") {
            let text = text.trim_ascii_end();
            if let Some(at) = text.iter().position(|byte| *byte == b' ') {
                headers.old_mode = headers.old_mode.or(mode(&text[at + 1..])?);
            }
        } else {
            return Ok([&b"similarity index "[..], b"dissimilarity index "].iter().any(|word| line.starts_with(word)));
        }
        Ok(true)
    }

    /// Puts together what the headers and hunks of one file say.
    fn assemble(
        &self,
        headers: Headers,
        both: Option<(Vec<u8>, Vec<u8>)>,
        hunks: Vec<Hunk<'a>>,
    ) -> Result<FilePatch<'a>, SyntaxError> {
        let moved = headers.moved_from.is_some() || headers.moved_to.is_some();
        let names = match (headers.old, headers.new, both) {
            _ if moved => Stripped { old: headers.moved_from, new: headers.moved_to, unsure: false },
            (Some(old), Some(new), _) => names::strip(old, new),
            (_, _, Some((old, new))) => names::strip(Some(old), Some(new)),
            _ => return Err(self.file_error(Problem::Name)),
        };
        let (mut old, new, unsure_names) =
            (names.old.filter(|_| !headers.is_new), names.new.filter(|_| !headers.is_deleted), names.unsure);
        match (&old, &new) {
            (None, None) => return Err(self.file_error(Problem::Name)),
            (None, Some(_)) | (Some(_), None) if moved => return Err(self.file_error(Problem::Names)),
            (Some(before), Some(after)) if !moved && before != after => {
                if headers.is_git {
                    return Err(self.file_error(Problem::Names));
                }
                // As `diff -u x.orig x` names them.
                old = Some(after.clone());
            }
            _ => {}
        }
        let has = |sign| hunks.iter().any(|hunk: &Hunk<'_>| hunk.lines.iter().any(|line| line.sign == sign));
        let (has_old, has_new) = (has(Sign::Removed) || has(Sign::Context), has(Sign::Added) || has(Sign::Context));
        if old.is_none() && has_old {
            return Err(self.file_error(Problem::NewWithOld));
        }
        if new.is_none() && has_new {
            return Err(self.file_error(Problem::DeletedWithNew));
        }
        let shown = super::super::shown(new.as_ref().or(old.as_ref()).map(Vec::as_slice).unwrap_or_default());
        let mode = |mode: Option<u32>| git_mode(mode).ok_or_else(|| self.file_error(Problem::Submodule(shown.clone())));
        Ok(FilePatch {
            old_mode: mode(headers.old_mode)?,
            new_mode: mode(headers.new_mode)?,
            origin: match (moved, headers.copied) {
                (false, _) => Origin::Own,
                (true, false) => Origin::Renamed,
                (true, true) => Origin::Copied,
            },
            may_be_new: !has_old && !moved && !hunks.is_empty(),
            carriage_returns: headers.carriage_returns,
            old,
            new,
            hunks,
            unsure_names,
        })
    }

    /// The hunks of the file that is called so.
    fn hunks(&mut self, file: &str) -> Result<Vec<Hunk<'a>>, SyntaxError> {
        let mut hunks = Vec::new();
        while let Some(header) = self.peek().filter(|line| line.starts_with(b"@@")) {
            let header_at = self.at;
            let numbers = parse_numbers(header).map_err(|problem| self.error(problem))?;
            self.at += 1;
            let lines = self.hunk_lines(numbers.map(|numbers| (numbers.old_lines, numbers.new_lines)))?;
            if lines.iter().all(|line| line.sign == Sign::Context) {
                return Err(SyntaxError { line: header_at + 1, problem: Problem::NoChange(file.to_owned()) });
            }
            let place = numbers.map(|numbers| Place { old: numbers.old, new: numbers.new });
            hunks.push(Hunk { header: header.trim_ascii_end(), place, lines });
        }
        Ok(hunks)
    }

    /// The lines of a hunk: as many as its header says, if what follows is none; else all that can be its lines.
    fn hunk_lines(&mut self, counts: Option<(u64, u64)>) -> Result<Vec<Line<'a>>, SyntaxError> {
        let start = self.at;
        if let Some(counts) = counts
            && let Some(lines) = self.counted_lines(counts)
            && !self.at_surplus()
        {
            return Ok(lines);
        }
        self.at = start;
        self.all_lines()
    }

    /// As many lines as the header says; none, when there are fewer.
    fn counted_lines(&mut self, (mut old, mut new): (u64, u64)) -> Option<Vec<Line<'a>>> {
        let mut lines = Vec::new();
        while old > 0 || new > 0 {
            let ends_here = old == 1 && new == 1;
            if !ends_here && self.at_plain_header(self.at) {
                return None;
            }
            let line = self.line()?;
            match line.sign {
                Sign::Context => (old, new) = (old.checked_sub(1)?, new.checked_sub(1)?),
                Sign::Removed => old = old.checked_sub(1)?,
                Sign::Added => new = new.checked_sub(1)?,
            }
            lines.push(line);
        }
        Some(lines)
    }

    /// Whether what follows a hunk looks like more of it.
    fn at_surplus(&self) -> bool {
        let Some(line) = self.peek() else { return false };
        matches!(line.first(), Some(b' ' | b'+' | b'-')) && !self.at_plain_header(self.at) && !is_signature(line)
    }

    /// All lines that can be a hunk's. Empty ones at its end are taken for what separates it from what follows.
    fn all_lines(&mut self) -> Result<Vec<Line<'a>>, SyntaxError> {
        let mut lines = Vec::new();
        let mut blank = 0;
        while let Some(line) = self.peek().filter(|line| !is_end_of_hunks(line) && !self.at_plain_header(self.at)) {
            let is_blank = matches!(line.first(), Some(b'\r' | b'\n'));
            lines.push(self.line().ok_or_else(|| self.error(Problem::HunkLine))?);
            blank = if is_blank { blank + 1 } else { 0 };
        }
        lines.truncate(lines.len() - blank);
        Ok(lines)
    }

    /// The line of a hunk that is next, and the mark after it that it has no end.
    fn line(&mut self) -> Option<Line<'a>> {
        let line = self.peek()?;
        let (sign, mut text) = match line.split_first()? {
            (b' ', text) => (Sign::Context, text),
            (b'-', text) => (Sign::Removed, text),
            (b'+', text) => (Sign::Added, text),
            // Context that lost its space on the way.
            (b'\n' | b'\r', _) if line.trim_ascii().is_empty() => (Sign::Context, line),
            _ => return None,
        };
        self.at += 1;
        if self.peek().is_some_and(|next| next.starts_with(b"\\")) {
            text = text.strip_suffix(b"\n").unwrap_or(text);
            self.at += 1;
        }
        Some(Line { sign, text: Cow::Borrowed(text) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbers {
    old: u64,
    old_lines: u64,
    new: u64,
    new_lines: u64,
}

/// The numbers of `@@ -1,2 +3,4 @@`; none for a header that has none.
fn parse_numbers(header: &[u8]) -> Result<Option<Numbers>, Problem> {
    let Some(rest) = header.strip_prefix(b"@@ -") else {
        let text = header.strip_prefix(b"@@").unwrap_or_default();
        return if text.starts_with(b" -") { Err(Problem::Numbers) } else { Ok(None) };
    };
    let parse = || {
        let (old, old_lines, rest) = parse_range(rest)?;
        let (new, new_lines, rest) = parse_range(rest.strip_prefix(b" +")?)?;
        rest.starts_with(b" @@").then_some(Numbers { old, old_lines, new, new_lines })
    };
    parse().map(Some).ok_or(Problem::Numbers)
}

/// `12,3`, or `12` for one line.
fn parse_range(text: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (start, rest) = parse_number(text)?;
    match rest.strip_prefix(b",") {
        Some(rest) => parse_number(rest).map(|(lines, rest)| (start, lines, rest)),
        None => Some((start, 1, rest)),
    }
}

fn parse_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[..length]).ok()?.parse().ok()?;
    Some((number, &text[length..]))
}

fn parse_mode(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(text.trim_ascii_end()).ok()?, 8).ok()
}

/// What a mode of git's stands for; `None` inside for none, and without for a submodule or a kind that there is not.
fn git_mode(mode: Option<u32>) -> Option<Option<GitMode>> {
    let Some(mode) = mode else { return Some(None) };
    match mode & 0o170_000 {
        0o100_000 if mode & 0o100 != 0 => Some(Some(GitMode::Executable)),
        0o100_000 => Some(Some(GitMode::File)),
        0o120_000 => Some(Some(GitMode::Link)),
        _ => None,
    }
}

fn is_binary_mark(line: &[u8]) -> bool {
    let end = line.trim_ascii_end();
    end == b"GIT binary patch"
        || line.starts_with(b"Binary files ")
        || line.starts_with(b"Files ") && end.ends_with(b" differ")
}

/// Whether a line that follows a hunk begins something else.
fn is_end_of_hunks(line: &[u8]) -> bool {
    const STARTS: [&[u8]; 8] = [b"@@", b"diff ", b"Index: ", b"From ", b"commit ", b"```", b"***", b"====="];
    is_signature(line) || STARTS.iter().any(|start| line.starts_with(start))
}

/// What ends a patch that was mailed.
fn is_signature(line: &[u8]) -> bool {
    line == b"-- \n"
}

#[cfg(test)]
mod tests;
