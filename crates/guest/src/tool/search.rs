//! Searching: lines by a pattern, files by name. The walk and the search of a file stop as soon as a limit is reached.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use grep_matcher::{LineTerminator, Matcher};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkContextKind, SinkMatch};
use ignore::overrides::{Override, OverrideBuilder};
use ignore::{DirEntry, Walk, WalkBuilder};
use pyro_wire::exec::Word;
use pyro_wire::search::{
    CONTEXT_LINES_MAX, Case, FoundLine, LINE_BYTES_MAX, Pattern, Query, RESULTS_MAX, Search, SearchEnd, SearchLine,
};
use pyro_wire::tool::{ANSWER_LINE_BYTES, ANSWER_TEXT_BYTES_MAX};
use pyro_wire::{Fault, FaultKind};
use rustix::fs::{FileType, Mode, OFlags};

use super::stage::STAGE_NAME;
use super::{Answer, Ground, io_fault, shown};

/// Longest line that is searched; a file with a longer one is skipped.
const SEARCHED_LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a pattern may take when it is made ready.
const PATTERN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// So much of a file shows whether it is text; one that is shorter is searched as it lies in memory.
const HEAD_BYTES: usize = 64 * 1024;

/// Bytes of a long line that are shown before its match.
const BEFORE_MATCH_BYTES: usize = 80;

/// Directories of the root that hold no files of anyone.
const KERNEL_DIRS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Searches what was asked for.
pub(crate) fn search(request: &Search, ground: &Ground, answer: &mut Answer<impl Write>) -> Result<(), Fault> {
    let top = ground.open(&request.path, OFlags::PATH, Mode::empty())?;
    let stat = rustix::fs::fstat(&top).map_err(|error| io_fault("look at", request.path.as_bytes(), &error.into()))?;
    let start = Ground::place_of(&top)?;
    let mut search = Searching {
        finder: Finder::of(&request.query)?,
        left: request.results_max.min(RESULTS_MAX) as usize,
        bytes_left: ANSWER_TEXT_BYTES_MAX,
        end: SearchEnd { result_count: 0, searched_files: 0, skipped_files: 0, truncated: false },
        answer,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            for entry in walk(request, ground, &start)? {
                let Ok(entry) = entry else {
                    search.end.skipped_files += 1;
                    continue;
                };
                let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
                let path = entry.path().strip_prefix(&start).unwrap_or(entry.path());
                if is_file && search.file(entry.path(), path)?.is_break() {
                    break;
                }
            }
        }
        FileType::RegularFile => {
            let _whole = search.file(&start, Path::new(""))?;
        }
        _ => {
            let path = shown(request.path.as_bytes());
            return Err(Fault::new(FaultKind::WrongKind, format!("{path} is neither a directory nor a file")));
        }
    }
    let end = search.end;
    answer.line(&SearchLine::End(end))
}

fn walk(request: &Search, ground: &Ground, start: &Path) -> Result<Walk, Fault> {
    let root = ground.root.clone();
    let stages = ground.mount.join(STAGE_NAME);
    let respected = !request.ignored_too;
    let is_wanted = move |entry: &DirEntry| {
        let below_root = entry.path().strip_prefix(&root).map(|path| Path::new("/").join(path));
        let is_kernels =
            entry.depth() == 1 && below_root.is_ok_and(|path| KERNEL_DIRS.iter().any(|dir| path.as_os_str() == *dir));
        !(is_kernels || entry.path() == stages || (entry.depth() > 0 && entry.file_name() == ".git"))
    };
    Ok(WalkBuilder::new(start)
        .hidden(false)
        .parents(respected)
        .ignore(respected)
        .git_ignore(respected)
        .git_global(respected)
        .git_exclude(respected)
        .require_git(false)
        .overrides(globs(request, start)?)
        .filter_entry(is_wanted)
        .sort_by_file_name(|one, other| one.cmp(other))
        .build())
}

fn globs(request: &Search, start: &Path) -> Result<Override, Fault> {
    let mut globs = OverrideBuilder::new(start);
    let invalid = |glob: &str, error: &ignore::Error| {
        let reason = match error {
            ignore::Error::Glob { err, .. } => err.clone(),
            error => error.to_string(),
        };
        let glob = shown(glob.as_bytes());
        Fault::new(FaultKind::InvalidArgument, format!("the glob {glob} is not valid: {}", one_line(&reason)))
    };
    for glob in &request.globs {
        globs.add(glob).map_err(|error| invalid(glob, &error))?;
    }
    globs.build().map_err(|error| invalid("of the search", &error))
}

/// What is looked for, ready to be used.
enum Finder {
    Names,
    Lines(Box<LineFinder>),
}

struct LineFinder {
    matcher: RegexMatcher,
    searcher: Searcher,
    first_only: bool,
    /// The first bytes of the file at hand.
    head: Vec<u8>,
}

impl Finder {
    fn of(query: &Query) -> Result<Self, Fault> {
        let (pattern, context_lines, first_only) = match query {
            Query::Files => return Ok(Self::Names),
            Query::Lines { pattern, context_lines } => (pattern, *context_lines, false),
            Query::FilesWithMatch { pattern } => (pattern, 0, true),
        };
        if context_lines > CONTEXT_LINES_MAX {
            let message = format!("at most {CONTEXT_LINES_MAX} lines of context can be shown");
            return Err(Fault::new(FaultKind::InvalidArgument, message));
        }
        let searcher = SearcherBuilder::new()
            .line_number(true)
            .line_terminator(LineTerminator::crlf())
            .before_context(context_lines as usize)
            .after_context(context_lines as usize)
            .binary_detection(BinaryDetection::quit(0))
            .heap_limit(Some(SEARCHED_LINE_BYTES_MAX))
            .build();
        let finder = LineFinder { matcher: matcher(pattern)?, searcher, first_only, head: vec![0; HEAD_BYTES] };
        Ok(Self::Lines(Box::new(finder)))
    }
}

fn matcher(pattern: &Pattern) -> Result<RegexMatcher, Fault> {
    let invalid = |reason: &str| Fault::new(FaultKind::InvalidArgument, format!("the pattern is not valid: {reason}"));
    if pattern.text.is_empty() {
        return Err(invalid("it is empty"));
    }
    RegexMatcherBuilder::new()
        .multi_line(true)
        .crlf(true)
        .fixed_strings(pattern.fixed)
        .case_insensitive(pattern.case == Case::Insensitive)
        .size_limit(PATTERN_BYTES_MAX)
        .build(&pattern.text)
        .map_err(|error| invalid(&one_line(&error.to_string())))
}

/// What a message of several lines comes to.
fn one_line(message: &str) -> String {
    let last = message.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    shown(last.strip_prefix("error: ").unwrap_or(last).as_bytes())
}

struct Searching<'a, W: Write> {
    finder: Finder,
    /// Results that may still be told.
    left: usize,
    /// Bytes of lines and names that may still be told.
    bytes_left: usize,
    end: SearchEnd,
    answer: &'a mut Answer<W>,
}

impl<W: Write> Searching<'_, W> {
    /// Searches the file at `place`, which the answer calls `path`; breaks off when a limit is reached.
    fn file(&mut self, place: &Path, path: &Path) -> Result<ControlFlow<()>, Fault> {
        if self.left == 0 {
            self.end.truncated = true;
            return Ok(ControlFlow::Break(()));
        }
        let found = match &mut self.finder {
            Finder::Names => Ok(Some(Found::default())),
            Finder::Lines(lines) => {
                let limits = Limits { results: self.left, bytes: self.bytes_left, first_only: lines.first_only };
                find_lines(lines, place, limits)
            }
        };
        self.end.searched_files += 1;
        match found {
            Ok(Some(found)) => self.tell(path, found),
            Ok(None) => Ok(ControlFlow::Continue(())),
            // A file may be gone by now, or hold what cannot be searched, while all others are as good as ever.
            Err(_) => {
                self.end.skipped_files += 1;
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    fn tell(&mut self, path: &Path, found: Found) -> Result<ControlFlow<()>, Fault> {
        let name = path.as_os_str().as_bytes().len() + ANSWER_LINE_BYTES;
        // The limit of the lines did not know how long the name is, so it may be passed by one.
        if (found.cut && found.matches == 0) || self.bytes_left < name {
            self.end.truncated = true;
            return Ok(ControlFlow::Break(()));
        }
        self.bytes_left = self.bytes_left.saturating_sub(name + found.bytes);
        // Of a file that is itself the result no lines are told.
        let results = found.matches.max(1);
        self.left -= results;
        self.end.result_count += results as u64;
        self.answer.line(&SearchLine::File { path: Word::from(path.as_os_str().to_owned().into_vec()) })?;
        for line in found.lines {
            self.answer.line(&SearchLine::Line(line))?;
        }
        self.end.truncated |= found.cut;
        Ok(if found.cut { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    results: usize,
    bytes: usize,
    first_only: bool,
}

/// What was found in one file.
#[derive(Debug, Default)]
struct Found {
    lines: Vec<FoundLine>,
    matches: usize,
    bytes: usize,
    /// There is more in the file than the limits let through.
    cut: bool,
}

/// `None` when nothing matches, or when the file is not text.
fn find_lines(lines: &mut LineFinder, place: &Path, limits: Limits) -> io::Result<Option<Found>> {
    let LineFinder { matcher, searcher, head, .. } = lines;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::open(place, flags, Mode::empty())?);
    let count = file.read(head)?;
    let content = &head[..count];
    if is_binary(content) {
        return Ok(None);
    }
    let mut sink = Lines { matcher, limits, found: Found::default(), before: Vec::new(), has_match: false };
    // Most files are read whole by one call, and calls are what a search of many files takes its time for.
    if count < HEAD_BYTES {
        searcher.search_slice(&*matcher, content, &mut sink)?;
    } else if file.metadata()?.is_file() {
        file.rewind()?;
        searcher.search_file(&*matcher, &file, &mut sink)?;
    }
    Ok(sink.has_match.then_some(sink.found))
}

fn is_binary(head: &[u8]) -> bool {
    // UTF-16 says so at its beginning and is searched as what it is.
    let is_utf16 = head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff");
    !is_utf16 && memchr::memchr(0, head).is_some()
}

/// Gathers the lines of one file.
struct Lines<'a> {
    matcher: &'a RegexMatcher,
    limits: Limits,
    found: Found,
    /// Context that belongs to a match only if one comes.
    before: Vec<FoundLine>,
    has_match: bool,
}

impl Lines<'_> {
    fn line(&self, number: Option<u64>, bytes: &[u8], is_match: bool) -> FoundLine {
        let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        let line = &bytes[..end];
        let (text, is_cut) = self.cut(line, is_match);
        FoundLine { number: number.unwrap_or(0), is_match, text, is_cut }
    }

    /// As much of a line as is shown, with its match in it.
    fn cut(&self, line: &[u8], is_match: bool) -> (String, bool) {
        if line.len() <= LINE_BYTES_MAX {
            return (String::from_utf8_lossy(line).into_owned(), false);
        }
        let found = if is_match { self.matcher.find(line).ok().flatten().map(|found| found.start()) } else { None };
        let latest = line.len() - LINE_BYTES_MAX;
        let start = letter_start(line, found.unwrap_or(0).saturating_sub(BEFORE_MATCH_BYTES).min(latest));
        let end = letter_start(line, (start + LINE_BYTES_MAX).min(line.len()));
        (String::from_utf8_lossy(&line[start..end]).into_owned(), true)
    }

    /// Takes a line in, if it fits.
    fn push(&mut self, line: FoundLine) -> bool {
        let bytes = self.found.bytes + line.text.len() + ANSWER_LINE_BYTES;
        if bytes > self.limits.bytes {
            self.found.cut = true;
            return false;
        }
        self.found.bytes = bytes;
        self.found.lines.push(line);
        true
    }
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        self.has_match = true;
        if self.limits.first_only {
            return Ok(false);
        }
        if self.found.matches == self.limits.results {
            self.found.cut = true;
            return Ok(false);
        }
        let before = std::mem::take(&mut self.before);
        let line = self.line(found.line_number(), found.bytes(), true);
        let fits = before.into_iter().all(|line| self.push(line)) && self.push(line);
        self.found.matches += usize::from(fits);
        Ok(fits)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> Result<bool, io::Error> {
        let line = self.line(context.line_number(), context.bytes(), false);
        if *context.kind() == SinkContextKind::Before {
            self.before.push(line);
            return Ok(true);
        }
        Ok(self.push(line))
    }
}

/// The nearest place at or before `at` at which no letter is cut.
fn letter_start(line: &[u8], at: usize) -> usize {
    let is_inside = |at: usize| line.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    (at.saturating_sub(3)..=at).rev().find(|at| !is_inside(*at)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::{letter_start, one_line};

    #[test]
    fn letters_stay_whole() {
        let text = "aä€b".as_bytes();
        let starts: Vec<_> = (0..=text.len()).map(|at| letter_start(text, at)).collect();
        assert_eq!(starts, [0, 1, 1, 3, 3, 3, 6, 7]);
    }

    #[test]
    fn a_pattern_is_explained_in_one_line() {
        assert_eq!(one_line("regex parse error:\n    (\n    ^\nerror: unclosed group"), "unclosed group");
        assert_eq!(one_line("plain"), "plain");
    }
}
