//! OpenPGP's text form of binary data.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Decodes the lines between `-----BEGIN …-----` and `-----END …-----`. The checksum is not looked at: it guards against
/// accidents, which the signature does as well.
pub(super) fn decode(lines: &[&str]) -> Option<Vec<u8>> {
    // Headers, such as `Version:`, and the empty line that ends them; both may be missing together.
    let mut lines = lines.iter().map(|line| line.trim()).skip_while(|line| line.contains(": ")).peekable();
    lines.next_if(|line| line.is_empty());
    let encoded: String = lines.take_while(|line| !line.starts_with('=')).collect();
    STANDARD.decode(encoded).ok()
}

/// Decodes every block of one kind in a text, such as `PUBLIC KEY BLOCK`; `None` when there is none or one is broken.
pub(super) fn decode_blocks(text: &str, kind: &str) -> Option<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN PGP {kind}-----"), format!("-----END PGP {kind}-----"));
    let mut lines = text.lines().map(str::trim_end);
    let mut decoded = Vec::new();
    while lines.any(|line| line == begin) {
        let mut ended = false;
        let until_end = lines.by_ref().take_while(|line| {
            ended = *line == end;
            !ended
        });
        let block: Vec<&str> = until_end.collect();
        decoded.extend(decode(&block).filter(|_| ended)?);
    }
    (!decoded.is_empty()).then_some(decoded)
}
