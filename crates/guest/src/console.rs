//! Words for the machine's console (the serial line, which the host keeps), for when there is no session to tell.

/// Writes one line. What cannot be written is lost: there is nobody else to tell.
pub(crate) fn say(line: &str) {
    let line = format!("pyro-guest: {line}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stderr(), rest) {
            Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
            _ => return,
        }
    }
}
