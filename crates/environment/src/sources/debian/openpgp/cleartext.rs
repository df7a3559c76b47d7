//! The frame around a signed text (RFC 9580, section 7): where the text begins and ends, and in which form it was signed.

use super::armor;

/// A signed text, out of its frame.
#[derive(Debug)]
pub(super) struct SignedText {
    /// The text; lines end in `\n`.
    pub(super) text: String,
    /// The text as it was hashed.
    pub(super) hashed: String,
    /// The signature packets.
    pub(super) signatures: Vec<u8>,
}

const BEGIN_TEXT: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";
/// Blanks at the end of a line are not signed, so they are cut off before anyone reads the text.
const BLANKS: [char; 3] = [' ', '\t', '\r'];

/// Takes the frame off; says what is wrong with it otherwise. A file with anything outside the frame is refused, so that
/// nothing can be read from it that was not signed.
pub(super) fn open(file: &[u8]) -> Result<SignedText, &'static str> {
    let file = std::str::from_utf8(file).map_err(|_| "it is not UTF-8")?;
    let mut lines = file.split('\n').map(|line| line.trim_end_matches(BLANKS));
    if lines.next() != Some(BEGIN_TEXT) {
        return Err("it does not begin as one");
    }
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        if !line.starts_with("Hash: ") {
            return Err("its head has an unknown line");
        }
    }
    let mut signed: Vec<&str> = Vec::new();
    loop {
        match lines.next() {
            None => return Err("it has no signature"),
            Some(BEGIN_SIGNATURE) => break,
            Some(line) => match line.strip_prefix('-') {
                None => signed.push(line),
                // The blank of an escaped empty line was cut off with those at the end.
                Some("") => signed.push(""),
                Some(rest) => signed.push(rest.strip_prefix(' ').ok_or("a line in it starts with a dash")?),
            },
        }
    }
    let mut ended = false;
    let until_end = lines.by_ref().take_while(|line| {
        ended = *line == END_SIGNATURE;
        !ended
    });
    let signature: Vec<&str> = until_end.collect();
    if !ended {
        return Err("its signature has no end");
    }
    if lines.any(|line| !line.is_empty()) {
        return Err("there is something after its signature");
    }
    let signatures = armor::decode(&signature).ok_or("its signature is not in base64")?;
    Ok(SignedText { text: signed.join("\n") + "\n", hashed: signed.join("\r\n"), signatures })
}
