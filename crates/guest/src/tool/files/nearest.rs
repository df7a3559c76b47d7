//! What in a file is most like a text that is not in it. The work is bounded, however large the file is.

use std::borrow::Cow;
use std::cmp::Ordering;

use memchr::memmem;
use pyro_wire::files::{Difference, EDIT_LINES_MAX, NearLine};

/// Lines of the file that are compared.
const FILE_LINES_MAX: usize = 100_000;

/// Lines of the text that are compared.
const TEXT_LINES_MAX: usize = 40;

/// Bytes of a line that are compared.
const COMPARED_BYTES_MAX: usize = 160;

/// Places that are looked at closely.
const PLACES_MAX: usize = 16;

/// Characters of a line that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// What is less alike than this is not alike.
const LIKENESS_MIN: f32 = 0.4;

/// A piece of a line of which so much is in another line, and so many pairs of letters long at least, may be a piece of that.
const HELD_MIN: f32 = 0.75;
const HELD_PAIRS_MIN: usize = 6;

/// What a line that holds all of a piece is worth, where the same line is worth 1.
const LIKENESS_OF_PIECE: f32 = 0.9;

/// Lines shown before the first that differs.
const LINES_BEFORE: usize = 2;

/// The lines of `content` that are most like `text`, and in what they differ if that is plain.
pub(in crate::tool) fn nearest(content: &[u8], text: &[u8]) -> (Vec<NearLine>, Option<Difference>) {
    let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').take(FILE_LINES_MAX).collect();
    if let Some(at) = with_other_line_ends(content, text) {
        let first = memchr::memchr_iter(b'\n', &content[..at]).count();
        let count = text.split(|byte| *byte == b'\n').count();
        return (show(&lines, first, count), Some(Difference::LineEnds));
    }
    let wanted: Vec<Cow<'_, [u8]>> = text
        .strip_suffix(b"\n")
        .unwrap_or(text)
        .split(|byte| *byte == b'\n')
        .take(TEXT_LINES_MAX)
        .map(squeeze)
        .collect();
    let Some((start, likeness)) = best_place(&lines, &wanted) else { return (Vec::new(), None) };
    let same =
        |(index, line): (usize, &Cow<'_, [u8]>)| lines.get(start + index).is_some_and(|other| squeeze(other) == *line);
    let first_other = wanted.iter().enumerate().position(|line| !same(line));
    let difference = (first_other.is_none() && likeness > LIKENESS_MIN).then_some(Difference::Blanks);
    let skipped = first_other.unwrap_or(0).saturating_sub(LINES_BEFORE);
    (show(&lines, start + skipped, wanted.len() - skipped), difference)
}

/// Where `text` would be if its line ends were the other kind.
fn with_other_line_ends(content: &[u8], text: &[u8]) -> Option<usize> {
    if !text.contains(&b'\n') {
        return None;
    }
    let without: Vec<u8> = replace(text, b"\r\n", b"\n");
    let with = replace(&without, b"\n", b"\r\n");
    [with, without].iter().filter(|other| *other != text).find_map(|other| memmem::find(content, other))
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut after = Vec::with_capacity(text.len());
    let mut rest = 0;
    for at in memmem::find_iter(text, from) {
        after.extend_from_slice(&text[rest..at]);
        after.extend_from_slice(to);
        rest = at + from.len();
    }
    after.extend_from_slice(&text[rest..]);
    after
}

/// The line at which `wanted` fits best, and how well.
fn best_place(lines: &[&[u8]], wanted: &[Cow<'_, [u8]>]) -> Option<(usize, f32)> {
    // The longest line says most about where the text belongs.
    let (anchor, line) = wanted.iter().enumerate().max_by_key(|(_, line)| line.len())?;
    let pairs = Pairs::of(line);
    let mut places: Vec<(usize, f32)> = Vec::new();
    for (number, other) in lines.iter().enumerate() {
        let likeness = pairs.likeness(&squeeze(other));
        if likeness >= LIKENESS_MIN {
            places.push((number, likeness));
        }
    }
    places.sort_by(better);
    places.truncate(PLACES_MAX);
    let wanted_pairs: Vec<Pairs> = wanted.iter().map(|line| Pairs::of(line)).collect();
    let judged = places.iter().filter_map(|(number, _)| number.checked_sub(anchor)).map(|start| {
        let sum: f32 = wanted_pairs
            .iter()
            .enumerate()
            .map(|(index, pairs)| lines.get(start + index).map_or(0.0, |other| pairs.likeness(&squeeze(other))))
            .sum();
        (start, sum / wanted_pairs.len() as f32)
    });
    judged.min_by(better).filter(|(_, likeness)| *likeness >= LIKENESS_MIN)
}

/// The more alike first, then the earlier.
fn better(one: &(usize, f32), other: &(usize, f32)) -> Ordering {
    other.1.total_cmp(&one.1).then(one.0.cmp(&other.0))
}

/// A line without the blanks around it, and with one space for those inside.
fn squeeze(line: &[u8]) -> Cow<'_, [u8]> {
    let line = &line[..line.len().min(COMPARED_BYTES_MAX * 2)];
    let line = line.trim_ascii();
    if !line.iter().zip(line.iter().skip(1)).any(|pair| pair.0.is_ascii_whitespace() && pair.1.is_ascii_whitespace())
        && !line.contains(&b'\t')
    {
        return Cow::Borrowed(&line[..line.len().min(COMPARED_BYTES_MAX)]);
    }
    let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let mut squeezed = words.join(&b' ');
    squeezed.truncate(COMPARED_BYTES_MAX);
    Cow::Owned(squeezed)
}

/// The pairs of neighbouring bytes of a line, by how often they are there: two lines are as alike as they share them.
struct Pairs {
    line: Vec<u8>,
    counts: Box<[u8; BUCKETS]>,
}

const BUCKETS: usize = 1024;

impl Pairs {
    fn of(line: &[u8]) -> Self {
        let mut counts = Box::new([0_u8; BUCKETS]);
        line.windows(2).for_each(|pair| counts[bucket(pair)] = counts[bucket(pair)].saturating_add(1));
        Self { line: line.to_vec(), counts }
    }

    /// From 0, nothing in common, to 1, the same.
    fn likeness(&self, other: &[u8]) -> f32 {
        if self.line == other {
            return 1.0;
        }
        let (own_count, other_count) = (self.line.len().saturating_sub(1), other.len().saturating_sub(1));
        let sum = (own_count + other_count) as f32;
        // A line that is much shorter cannot share enough.
        if sum == 0.0 || 2.0 * other_count as f32 / sum < LIKENESS_MIN {
            return 0.0;
        }
        let mut left = *self.counts;
        let mut shared = 0_u32;
        for pair in other.windows(2) {
            let count = &mut left[bucket(pair)];
            if *count > 0 {
                *count -= 1;
                shared += 1;
            }
        }
        let likeness = 2.0 * shared as f32 / sum;
        // A text is often only a piece of a line.
        let held = shared as f32 / own_count.max(1) as f32;
        if held >= HELD_MIN && own_count >= HELD_PAIRS_MIN { likeness.max(held * LIKENESS_OF_PIECE) } else { likeness }
    }
}

fn bucket(pair: &[u8]) -> usize {
    let [one, two] = pair else { return 0 };
    (usize::from(*one) * 31 + usize::from(*two)) % BUCKETS
}

fn show(lines: &[&[u8]], first: usize, count: usize) -> Vec<NearLine> {
    let shown = lines.iter().enumerate().skip(first).take(count.min(EDIT_LINES_MAX));
    shown.map(|(index, line)| NearLine { number: index as u64 + 1, text: cut(line) }).collect()
}

fn cut(line: &[u8]) -> String {
    let line = &line[..line.len().min(SHOWN_CHARS_MAX * 4)];
    let text = String::from_utf8_lossy(line);
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pyro_wire::files::{Difference, EDIT_LINES_MAX};

    use super::nearest;

    const PROGRAM: &str = "use std::io;\n\nfn main() {\n    let total = count(1, 2);\n    println!(\"{total}\");\n}\n\nfn count(a: u32, b: u32) -> u32 {\n    a + b\n}\n";

    #[track_caller]
    fn check(content: &str, text: &str, lines: &[u64], difference: Option<Difference>) {
        let (near, found) = nearest(content.as_bytes(), text.as_bytes());
        assert_eq!((near.iter().map(|line| line.number).collect::<Vec<_>>().as_slice(), found), (lines, difference));
    }

    proptest! {
        #[test]
        fn whatever_is_compared_is_shown_within_the_limits(
            content in prop::collection::vec(prop::sample::select(&b"ab \t\n\r\xff"[..]), 0..400),
            text in prop::collection::vec(prop::sample::select(&b"ab \t\n\r\xff"[..]), 1..60),
        ) {
            let (near, difference) = nearest(&content, &text);
            prop_assert!(near.len() <= EDIT_LINES_MAX && (difference.is_none() || !near.is_empty()));
            let lines = content.split(|byte| *byte == b'\n').count() as u64;
            prop_assert!(near.iter().all(|line| (1..=lines).contains(&line.number)));
        }
    }

    #[test]
    fn a_slip_leads_to_the_lines_that_were_meant() {
        check(PROGRAM, "let totals = count(1, 2);", &[4], None);
        check(PROGRAM, "    let total = count(1, 2);\n    println!(\"total: {total}\");\n", &[4, 5], None);
        check(PROGRAM, "fn count(a: u32, b: u32) -> u64 {\n    a + b\n}\n", &[8, 9, 10], None);
        let long =
            format!("{PROGRAM}// {} and at last println!(\"{{sum}}\"); {}\n", "words ".repeat(9), "words ".repeat(9));
        check(&long, "at last println!(\"{summ}\");", &[11], None);
        check(PROGRAM, "something that is nowhere in here", &[], None);
        check("", "x", &[], None);
    }

    #[test]
    fn a_plain_difference_has_a_name() {
        check(PROGRAM, "fn main() {\n\tlet total = count(1, 2);\n", &[3, 4], Some(Difference::Blanks));
        check("a\r\nbee\r\ncee\r\n", "bee\ncee\n", &[2, 3, 4], Some(Difference::LineEnds));
        check("a\nbee\ncee\n", "bee\r\ncee", &[2, 3], Some(Difference::LineEnds));
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        let content: String = (0..40).map(|number| format!("    let value_{number} = compute({number});\n")).collect();
        let text = content.replace("compute(35)", "compute(53)");
        check(&content, &text, &[34, 35, 36, 37, 38, 39, 40], None);
    }
}
