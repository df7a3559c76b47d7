//! Cuts patterns out of a stream of bytes, whatever pieces it comes in.
//!
//! One automaton (Aho and Corasick's) knows all patterns at once. Its state says, after each byte, how much of the end of
//! the stream is the beginning of a pattern: exactly that much is held back, so that an interactive program's output is
//! not delayed, and all before it is passed on. Every occurrence of every pattern is cut out, those that overlap as one.

use std::collections::VecDeque;
use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

const ROOT: u32 = 0;

/// A state that leads to more gets a row of its own: where a secret has many lines the first states lead to hundreds.
const LISTED_MAX: usize = 4;

/// The automaton. Its memory is wiped when it is dropped: the patterns can be read off it.
pub struct Redactor {
    nodes: Vec<Node>,
    /// Where each byte leads from a state that leads to many.
    rows: Vec<[u32; 256]>,
    /// What stands in the place of what was cut out, by the pattern's owner.
    marks: Vec<Vec<u8>>,
}

/// A state: a beginning of at least one pattern.
#[derive(Clone, Copy, Default)]
struct Node {
    /// The first of those that are one byte longer; the root where there is none.
    child: u32,
    /// The next one that is as long as this and began the same way.
    sibling: u32,
    /// The number of its row, from 1, when it leads to many.
    row: u32,
    /// The longest shorter end of this that is a beginning, too.
    fallback: u32,
    /// How long it is.
    depth: u32,
    /// The longest pattern that ends here; 0 where none does.
    longest: u32,
    /// Whose pattern that is.
    owner: u16,
    /// Its last byte.
    byte: u8,
}

impl Redactor {
    /// One that replaces each pattern by the mark of its owner. Empty patterns count for nothing.
    #[must_use]
    pub fn new(marks: Vec<Vec<u8>>, patterns: &[(u16, Zeroizing<Vec<u8>>)]) -> Self {
        let root = Node { row: 1, ..Node::default() };
        let mut redactor = Self { nodes: vec![root], rows: vec![[ROOT; 256]], marks };
        for (owner, pattern) in patterns {
            redactor.insert(*owner, pattern);
        }
        redactor.link();
        redactor
    }

    /// Begins a stream.
    #[must_use]
    pub fn stream(self: &Arc<Self>) -> RedactedStream {
        RedactedStream {
            redactor: Arc::clone(self),
            state: ROOT,
            held: Vec::new(),
            position: 0,
            cuts: VecDeque::new(),
            owners: 0,
        }
    }

    fn insert(&mut self, owner: u16, pattern: &[u8]) {
        let mut state = ROOT;
        for byte in pattern {
            state = match self.child(state, *byte) {
                Some(next) => next,
                None => self.grow(state, *byte),
            };
        }
        let node = &mut self.nodes[state as usize];
        if state != ROOT && node.longest == 0 {
            (node.longest, node.owner) = (node.depth, owner);
        }
    }

    fn grow(&mut self, parent: u32, byte: u8) -> u32 {
        let new = u32::try_from(self.nodes.len()).expect("secrets are far smaller than 4 GiB");
        let Node { child, depth, .. } = self.nodes[parent as usize];
        self.nodes.push(Node { sibling: child, depth: depth + 1, byte, ..Node::default() });
        self.nodes[parent as usize].child = new;
        if let Some(row) = self.row_of(parent) {
            self.rows[row][usize::from(byte)] = new;
        } else if self.children(parent).count() > LISTED_MAX {
            let mut row = [ROOT; 256];
            self.children(parent).for_each(|(byte, child)| row[usize::from(byte)] = child);
            self.rows.push(row);
            self.nodes[parent as usize].row = u32::try_from(self.rows.len()).expect("there are fewer than states");
        }
        new
    }

    fn row_of(&self, state: u32) -> Option<usize> {
        (self.nodes[state as usize].row as usize).checked_sub(1)
    }

    fn children(&self, state: u32) -> impl Iterator<Item = (u8, u32)> {
        let begin = self.nodes[state as usize].child;
        let all = std::iter::successors(Some(begin), |child| Some(self.nodes[*child as usize].sibling));
        all.take_while(|child| *child != ROOT).map(|child| (self.nodes[child as usize].byte, child))
    }

    /// Finds where each state falls back to, the shorter ones first.
    fn link(&mut self) {
        let mut queue: VecDeque<u32> = VecDeque::from([ROOT]);
        while let Some(state) = queue.pop_front() {
            let mut child = self.nodes[state as usize].child;
            while child != ROOT {
                let Node { byte, sibling, .. } = self.nodes[child as usize];
                let fallback = if state == ROOT { ROOT } else { self.next(self.nodes[state as usize].fallback, byte) };
                let behind = self.nodes[fallback as usize];
                let node = &mut self.nodes[child as usize];
                node.fallback = fallback;
                if node.longest == 0 {
                    (node.longest, node.owner) = (behind.longest, behind.owner);
                }
                queue.push_back(child);
                child = sibling;
            }
        }
    }

    fn child(&self, state: u32, byte: u8) -> Option<u32> {
        let node = &self.nodes[state as usize];
        let mut child = node.child;
        if node.row > 0 {
            child = self.rows[node.row as usize - 1][usize::from(byte)];
        } else {
            while child != ROOT && self.nodes[child as usize].byte != byte {
                child = self.nodes[child as usize].sibling;
            }
        }
        (child != ROOT).then_some(child)
    }

    fn next(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            match self.child(state, byte) {
                Some(next) => return next,
                None if state == ROOT => return ROOT,
                None => state = self.nodes[state as usize].fallback,
            }
        }
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Drop for Redactor {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.byte.zeroize());
    }
}

/// A stream out of which patterns are cut.
pub struct RedactedStream {
    redactor: Arc<Redactor>,
    state: u32,
    /// What was pushed and not passed on, the last of it at `position`.
    held: Vec<u8>,
    position: u64,
    /// What is to be cut out of what is held, in order; the first may have begun before it.
    cuts: VecDeque<Cut>,
    /// Whose patterns were found, a bit each.
    owners: u64,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    begin: u64,
    end: u64,
    owner: u16,
    /// Its mark was passed on.
    marked: bool,
}

impl std::fmt::Debug for RedactedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedactedStream").finish_non_exhaustive()
    }
}

impl RedactedStream {
    /// Takes the next bytes, and gives those that can be passed on.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        for byte in bytes {
            self.state = self.redactor.next(self.state, *byte);
            self.position += 1;
            if self.state != ROOT {
                self.cut();
            }
        }
        let depth = u64::from(self.redactor.nodes[self.state as usize].depth);
        self.release(self.position - depth)
    }

    /// Gives what is left. The stream begins anew after it.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        self.state = ROOT;
        self.release(self.position)
    }

    /// Whether patterns of this owner were found since the beginning.
    #[must_use]
    pub fn found(&self, owner: u16) -> bool {
        owner < 64 && self.owners & (1 << owner) != 0
    }

    /// Notes that a pattern ended here, if one did.
    fn cut(&mut self) {
        let Node { longest, owner, .. } = self.redactor.nodes[self.state as usize];
        if longest == 0 {
            return;
        }
        self.owners |= 1_u64.checked_shl(u32::from(owner)).unwrap_or(0);
        let mut cut = Cut { begin: self.position - u64::from(longest), end: self.position, owner, marked: false };
        while let Some(last) = self.cuts.back().filter(|last| last.end > cut.begin) {
            if last.begin <= cut.begin {
                cut = Cut { end: cut.end, ..*last };
            }
            self.cuts.pop_back();
        }
        self.cuts.push_back(cut);
    }

    /// Gives what stands before `limit`: no pattern that is still to come begins there.
    fn release(&mut self, limit: u64) -> Vec<u8> {
        let mut at = self.position - self.held.len() as u64;
        let begin = at;
        let mut out = Vec::with_capacity(self.held.len());
        let held = |from: u64, to: u64| {
            let index = |position: u64| usize::try_from(position - begin).expect("it is in what is held");
            &self.held[index(from)..index(to)]
        };
        while at < limit {
            match self.cuts.front_mut() {
                Some(cut) if cut.begin <= at => {
                    if !cut.marked {
                        cut.marked = true;
                        out.extend_from_slice(&self.redactor.marks[usize::from(cut.owner)]);
                    }
                    at = cut.end.min(limit);
                    if cut.end <= limit {
                        self.cuts.pop_front();
                    }
                }
                cut => {
                    let end = cut.map_or(limit, |cut| cut.begin.min(limit));
                    out.extend_from_slice(held(at, end));
                    at = end;
                }
            }
        }
        let released = usize::try_from(at - begin).expect("it is in what is held");
        self.held.drain(..released);
        out
    }
}

impl Drop for RedactedStream {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::Redactor;

    fn redactor(patterns: &[&str]) -> Arc<Redactor> {
        let patterns: Vec<_> = patterns.iter().map(|pattern| (0, pattern.as_bytes().to_vec().into())).collect();
        Arc::new(Redactor::new(vec![b"<>".to_vec()], &patterns))
    }

    #[track_caller]
    fn check(patterns: &[&str], text: &str, expected: &str) {
        let mut stream = redactor(patterns).stream();
        let mut out = stream.push(text.as_bytes());
        out.extend(stream.finish());
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{patterns:?} in {text:?}");
        assert_eq!(stream.found(0), expected.contains("<>"));
    }

    #[test]
    fn every_occurrence_is_cut_out() {
        check(
            &["xa1", "xb2", "xc3", "xd4", "xe5", "xf6", "xg7"],
            "xa1xb2xc3 xd4xe5xf6xg7 xh8 xa2",
            "<><><> <><><><> xh8 xa2",
        );
        check(&["secret"], "a secret, secretsecret", "a <>, <><>");
        check(&["abab"], "ababab!", "<>!");
        check(&["abc", "bcd", "xbcdx"], "abcd xbcdx abce", "<> <> <>e");
        check(&["he", "she", "hers"], "ushers", "u<>");
        check(&["secret"], "secre", "secre");
        check(&[""], "nothing", "nothing");
        check(&[], "nothing", "nothing");
    }

    #[test]
    fn only_the_beginning_of_a_pattern_is_held_back() {
        let mut stream = redactor(&["secret"]).stream();
        assert_eq!(stream.push(b"$ se"), b"$ ");
        assert_eq!(stream.push(b"t"), b"set");
        assert_eq!(stream.push(b"sesec"), b"se");
        assert_eq!(stream.push(b"ret\n"), b"<>\n");
        assert_eq!(stream.push(b"s"), b"");
        assert_eq!(stream.finish(), b"s");
    }

    fn word() -> impl Strategy<Value = String> {
        "[ab]{1,6}"
    }

    proptest! {
        /// Over a tiny alphabet everything overlaps with everything.
        #[test]
        fn no_pattern_survives_and_pieces_make_no_difference(
            patterns in prop::collection::vec(word(), 1..5),
            text in "[abc]{0,60}",
            breaks in prop::collection::vec(0_usize..8, 0..60),
        ) {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let redactor = redactor(&patterns);
            let mut whole = redactor.stream();
            let mut expected = whole.push(text.as_bytes());
            expected.extend(whole.finish());

            let mut stream = redactor.stream();
            let (mut rest, mut out) = (text.as_bytes(), Vec::new());
            for length in breaks {
                let (now, later) = rest.split_at(length.min(rest.len()));
                out.extend(stream.push(now));
                rest = later;
            }
            out.extend(stream.push(rest));
            out.extend(stream.finish());
            prop_assert_eq!(&out, &expected);

            let out = String::from_utf8(out).unwrap();
            for pattern in &patterns {
                prop_assert!(!out.contains(pattern), "{} in {}", pattern, out);
            }
            // What is in no pattern's occurrence is all there.
            let mut kept = vec![true; text.len()];
            for pattern in &patterns {
                for at in (0..text.len()).filter(|at| text[*at..].starts_with(pattern)) {
                    kept[at..at + pattern.len()].fill(false);
                }
            }
            let left: String = text.chars().zip(kept).filter(|(_, kept)| *kept).map(|(char, _)| char).collect();
            prop_assert_eq!(out.replace("<>", ""), left);
        }
    }
}
