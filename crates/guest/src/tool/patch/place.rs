//! Where a hunk fits, and a file with all its hunks in it.
//!
//! The search is that of `git apply`: from the line a hunk names, a line further down, a line further up, and so on;
//! lines must be the same to the last blank; a hunk of the file's first line must fit at its top, one without context
//! after its changes at its end; what a hunk has put in is not matched by the next. Where that finds nothing, a hunk that fits
//! at the very line it names, or in one place only, belongs there: people and models count lines badly.

use pyro_wire::patch::{HunkPlace, SHOWN_LINES_MAX};

use super::parse::{Hunk, Sign};

/// A file's lines in the making.
pub(super) struct Image<'a> {
    lines: Vec<ImageLine<'a>>,
}

#[derive(Clone, Copy)]
struct ImageLine<'a> {
    text: &'a [u8],
    /// It belongs to a hunk that was put in.
    taken: bool,
}

/// Why a hunk has no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// Its lines are nowhere.
    Nowhere,
    /// They are in several places, of which these are the first.
    Several(Vec<u64>),
    /// It takes the file for a new one.
    NotEmpty,
    /// It has no line to be known by, and no number or one past the end.
    NoContext,
}

/// The two sides of a hunk.
struct Sides<'a> {
    old: Vec<&'a [u8]>,
    new: Vec<&'a [u8]>,
    /// Whether there is context after the last change.
    trails: bool,
}

impl<'a> Image<'a> {
    pub(super) fn new(content: &'a [u8]) -> Self {
        let lines = content.split_inclusive(|byte| *byte == b'\n');
        Self { lines: lines.map(|text| ImageLine { text, taken: false }).collect() }
    }

    /// Puts a hunk where it fits.
    pub(super) fn put(&mut self, hunk: &'a Hunk<'_>) -> Result<HunkPlace, Miss> {
        let sides = Sides::of(hunk);
        let at = self.find(hunk, &sides)?;
        let end = at + sides.old.len();
        let mut new: Vec<_> = sides.new.iter().map(|text| ImageLine { text, taken: true }).collect();
        // Context at the end of the file keeps the end that the file has.
        if let (true, Some(line), Some(last)) =
            (sides.trails && end == self.lines.len(), new.last_mut(), self.lines.last())
        {
            line.text = last.text;
        }
        let is_whole = |line: Option<&ImageLine<'_>>| line.is_none_or(|line| line.text.ends_with(b"\n"));
        let before = at.checked_sub(1).and_then(|before| self.lines.get(before));
        // A line without an end is the last one, or it would run into the next.
        if end < self.lines.len() && !is_whole(new.last()) || !new.is_empty() && !is_whole(before) {
            return Err(Miss::Nowhere);
        }
        let said = hunk.place.map_or(at as u64, |place| place.new.saturating_sub(u64::from(!new.is_empty())));
        self.lines.splice(at..end, new);
        let offset = i64::try_from(at).unwrap_or(i64::MAX).saturating_sub_unsigned(said);
        Ok(HunkPlace { line: at as u64 + 1, offset })
    }

    pub(super) fn content(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| line.text).copied().collect()
    }

    fn find(&self, hunk: &Hunk<'_>, sides: &Sides<'_>) -> Result<usize, Miss> {
        if sides.old.is_empty() {
            return self.find_without_old(hunk);
        }
        if let Some(place) = hunk.place {
            let ends = Ends { top: place.old <= 1, bottom: !sides.trails };
            let said = usize::try_from(place.new.saturating_sub(1)).unwrap_or(usize::MAX);
            if let Some(at) = self.find_as_git(said, ends, &sides.old) {
                return Ok(at);
            }
            if self.fits(said, &sides.old, FileEnd::Any) {
                return Ok(said);
            }
        }
        let fits = (0..self.lines.len()).filter(|at| self.fits(*at, &sides.old, FileEnd::Any));
        match *fits.take(SHOWN_LINES_MAX).collect::<Vec<_>>() {
            [] => Err(Miss::Nowhere),
            [at] => Ok(at),
            ref several => Err(Miss::Several(several.iter().map(|at| *at as u64 + 1).collect())),
        }
    }

    /// A hunk that only adds has nothing but its number to be known by.
    fn find_without_old(&self, hunk: &Hunk<'_>) -> Result<usize, Miss> {
        match hunk.place {
            _ if self.lines.is_empty() => Ok(0),
            Some(place) if place.old == 0 => Err(Miss::NotEmpty),
            // It stands after the line of the old file, by which it is where the new file has it, less one.
            Some(place) => {
                let at = usize::try_from(place.new.saturating_sub(1)).unwrap_or(usize::MAX);
                if at <= self.lines.len() { Ok(at) } else { Err(Miss::NoContext) }
            }
            None => Err(Miss::NoContext),
        }
    }

    fn find_as_git(&self, said: usize, ends: Ends, old: &[&[u8]]) -> Option<usize> {
        let count = self.lines.len();
        let start = match ends {
            Ends { top: true, .. } => 0,
            Ends { bottom: true, .. } => count.checked_sub(old.len()).unwrap_or(count),
            _ => said.min(count),
        };
        let allowed = |at: usize| (!ends.top || at == 0) && (!ends.bottom || at + old.len() == count);
        let file_end = if ends.bottom { FileEnd::Same } else { FileEnd::More };
        let fits = |at: &usize| allowed(*at) && self.fits(*at, old, file_end);
        if fits(&start) {
            return Some(start);
        }
        let (mut down, mut up) = (start + 1..=count, (0..start).rev());
        loop {
            let (next_down, next_up) = (down.next(), up.next());
            if let Some(at) = next_down.filter(fits).or_else(|| next_up.filter(fits)) {
                return Some(at);
            }
            if next_down.is_none() && next_up.is_none() {
                return None;
            }
        }
    }

    fn fits(&self, at: usize, old: &[&[u8]], file_end: FileEnd) -> bool {
        let Some(lines) = self.lines.get(at..).and_then(|rest| rest.get(..old.len())) else { return false };
        let ends_file = at + old.len() == self.lines.len();
        lines.iter().zip(old).enumerate().all(|(index, (line, old_line))| {
            let is_last = ends_file && index + 1 == old.len();
            !line.taken && (line.text == *old_line || is_last && file_end.forgives(line.text, old_line))
        })
    }
}

/// Which difference in the end of a file's last line is forgiven.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileEnd {
    Same,
    /// It has one, and the hunk says that it has none. git lets this pass where context follows the change.
    More,
    Any,
}

impl FileEnd {
    fn forgives(self, line: &[u8], old: &[u8]) -> bool {
        let more = || line.strip_suffix(b"\n") == Some(old);
        let less = || old.strip_suffix(b"\n") == Some(line);
        match self {
            Self::Same => false,
            Self::More => more(),
            Self::Any => more() || less(),
        }
    }
}

/// Where a hunk must fit besides where it says.
#[derive(Clone, Copy)]
struct Ends {
    top: bool,
    bottom: bool,
}

impl<'a> Sides<'a> {
    fn of(hunk: &'a Hunk<'_>) -> Self {
        let side = |unwanted: Sign| {
            let lines = hunk.lines.iter().filter(|line| line.sign != unwanted);
            lines.map(|line| &*line.text).collect()
        };
        let trails = hunk.lines.last().is_some_and(|line| line.sign == Sign::Context);
        Self { old: side(Sign::Added), new: side(Sign::Removed), trails }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::{Image, Miss};

    /// The content after the hunks of a patch, and the offsets at which they were put.
    fn apply(content: &str, hunks: &str) -> Result<(String, Vec<i64>), Miss> {
        let patch = format!("--- a/x\n+++ b/x\n{hunks}");
        let files = parse(patch.as_bytes()).expect("a patch");
        let mut image = Image::new(content.as_bytes());
        let places = files[0].hunks.iter().map(|hunk| image.put(hunk)).collect::<Result<Vec<_>, _>>()?;
        Ok((String::from_utf8(image.content()).expect("text"), places.iter().map(|place| place.offset).collect()))
    }

    #[track_caller]
    fn check(content: &str, hunks: &str, expected: Result<(&str, &[i64]), Miss>) {
        assert_eq!(apply(content, hunks), expected.map(|(text, offsets)| (text.to_owned(), offsets.to_vec())));
    }

    fn numbers(range: std::ops::RangeInclusive<u32>) -> String {
        range.map(|number| format!("{number}\n")).collect()
    }

    #[test]
    fn drift_is_followed() {
        let hunk = "@@ -2,3 +2,3 @@\n 2\n-3\n+three\n 4\n";
        check(&numbers(1..=5), hunk, Ok((&numbers(1..=5).replace('3', "three"), &[0])));
        let moved = format!("0\n0\n{}", numbers(1..=5));
        check(&moved, hunk, Ok((&moved.replace('3', "three"), &[2])));
        check(&numbers(2..=5), hunk, Ok((&numbers(2..=5).replace('3', "three"), &[-1])));
        check(&numbers(1..=3), hunk, Err(Miss::Nowhere));
    }

    #[test]
    fn the_nearest_place_counts_and_what_was_put_in_is_not_matched_again() {
        let block = "a\nb\nc\n";
        let content = block.repeat(4);
        let hunk = |at: usize| format!("@@ -{at},3 +{at},3 @@\n a\n-b\n+B\n c\n");
        check(&content, &hunk(7), Ok((&format!("{}a\nB\nc\n{block}", block.repeat(2)), &[0])));
        check(&content, &hunk(8), Ok((&format!("{}a\nB\nc\n{block}", block.repeat(2)), &[-1])));
        let twice = format!("{}{}", hunk(4), hunk(4));
        check(&content, &twice, Ok((&format!("{block}a\nB\nc\na\nB\nc\n{block}"), &[0, 3])));
    }

    #[test]
    fn a_bad_number_or_missing_context_is_forgiven_where_only_one_place_fits() {
        let content = numbers(1..=30);
        check(&content, "@@ -1,2 +1,2 @@\n 20\n-21\n+x\n", Ok((&content.replace("21", "x"), &[19])));
        check(&content, "@@\n-21\n+x\n", Ok((&content.replace("21", "x"), &[0])));
        check("a\nb\na\nb\na\n", "@@\n-b\n+x\n a\n", Err(Miss::Several(vec![2, 4])));
        check("a\nb\na\nb\nc\n", "@@ -4,1 +4,1 @@\n-b\n+x\n", Ok(("a\nb\na\nx\nc\n", &[0])));
    }

    #[test]
    fn what_only_adds_goes_by_its_number() {
        check("", "@@ -0,0 +1,1 @@\n+x\n", Ok(("x\n", &[0])));
        check("a\nb\n", "@@ -1,0 +2,1 @@\n+x\n", Ok(("a\nx\nb\n", &[0])));
        check("a\nb\n", "@@ -0,0 +1,1 @@\n+x\n", Err(Miss::NotEmpty));
        check("a\nb\n", "@@ -9,0 +10,1 @@\n+x\n", Err(Miss::NoContext));
        check("a\nb\n", "@@\n+x\n", Err(Miss::NoContext));
    }

    #[test]
    fn lines_without_an_end_stay_the_last() {
        check("a\nb", "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n", Ok(("a\nb\n", &[0])));
        check("a\nb\n", "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n", Ok(("a\nc\n", &[0])));
        check("a\nb\n", "@@ -1,2 +1,3 @@\n a\n+x\n b\n\\ No newline at end of file\n", Ok(("a\nx\nb\n", &[0])));
        check("a\nb", "@@ -1,2 +1,3 @@\n a\n+x\n b\n", Ok(("a\nx\nb", &[0])));
        check("a\nb", "@@ -1,2 +1,3 @@\n a\n b\n+x\n", Ok(("a\nb\nx\n", &[0])));
        check("a\nb\nc\n", "@@ -2 +2 @@\n-b\n+x\n\\ No newline at end of file\n", Err(Miss::Nowhere));
        check("a", "@@ -1,0 +2 @@\n+x\n", Err(Miss::Nowhere));
    }
}
