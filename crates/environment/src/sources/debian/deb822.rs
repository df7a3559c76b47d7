//! Debian's control format: stanzas of `Name: value` fields, a value going on in lines that start with a blank.
//!
//! A strict reader that borrows from its text. It leaves the meaning of fields to others, and knows no comments:
//! archives do not write any.

/// One stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stanza<'a> {
    text: &'a str,
}

/// Text that is not in the control format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line `{line}` is neither a field nor the continuation of one")]
pub struct MalformedStanza {
    /// The offending line, shortened.
    pub line: String,
}

const SHOWN_LINE_CHARS_MAX: usize = 60;

/// The stanzas of a text, which are parted by empty lines.
pub fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.trim_start_matches('\n');
        if start.is_empty() {
            return None;
        }
        let (stanza, after) = start.split_once("\n\n").unwrap_or((start, ""));
        rest = after;
        Some(Stanza { text: stanza })
    })
}

impl<'a> Stanza<'a> {
    /// The fields in their order. A value keeps its line breaks and the blanks that start its continuation lines, so that
    /// `name: value` and a line break give back what was read.
    pub fn fields(self) -> impl Iterator<Item = Result<(&'a str, &'a str), MalformedStanza>> {
        let mut rest = self.text.strip_suffix('\n').unwrap_or(self.text);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (field, after) = rest.split_at(field_length(rest));
            rest = after.strip_prefix('\n').unwrap_or(after);
            Some(split_field(field))
        })
    }
}

/// Length of the first field with its continuation lines, without the line break at its end.
fn field_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(offset) = text.get(from..).and_then(|rest| rest.find('\n')) {
        let line_break = from + offset;
        match bytes.get(line_break + 1) {
            Some(b' ' | b'\t') => from = line_break + 1,
            _ => return line_break,
        }
    }
    text.len()
}

fn split_field(field: &str) -> Result<(&str, &str), MalformedStanza> {
    let malformed = || {
        let line = field.lines().next().unwrap_or_default();
        MalformedStanza { line: line.chars().take(SHOWN_LINE_CHARS_MAX).collect() }
    };
    let (name, value) = field.split_once(':').ok_or_else(malformed)?;
    let good_name = name.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) && !name.is_empty();
    if !good_name || name.starts_with(['-', '#']) {
        return Err(malformed());
    }
    Ok((name, value.trim_start_matches([' ', '\t']).trim_end_matches([' ', '\t', '\r'])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::stanzas;

    fn fields(text: &str) -> Vec<Vec<(&str, &str)>> {
        stanzas(text).map(|stanza| stanza.fields().collect::<Result<_, _>>().unwrap()).collect()
    }

    #[test]
    fn stanzas_and_their_fields_are_read() {
        let text = "Package: a\nDescription: short\n long\n .\n more\nTag:x\n\n\nPackage: b\nConffiles:\n /etc/b 1\n";
        assert_eq!(
            fields(text),
            [
                vec![("Package", "a"), ("Description", "short\n long\n .\n more"), ("Tag", "x")],
                vec![("Package", "b"), ("Conffiles", "\n /etc/b 1")],
            ]
        );
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for text in ["no colon\n", " starts with a blank: x", ": no name", "two words: x", "-dash: x"] {
            assert!(stanzas(text).any(|stanza| stanza.fields().any(|field| field.is_err())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[ \\t\\nA-Za-z:.-]{0,200}") {
            for stanza in stanzas(&text) {
                prop_assert!(stanza.fields().count() <= text.len());
            }
        }

        #[test]
        fn fields_give_back_their_text(names in proptest::collection::vec("[A-Z][a-z-]{0,8}", 1..6), value in "[a-z]{1,9}(\\n [a-z.]{1,9}){0,3}") {
            let text: String = names.iter().map(|name| format!("{name}: {value}\n")).collect();
            let again: String = fields(&text)[0].iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            prop_assert_eq!(again, text);
        }
    }
}
