//! Content that a flag gives as text, or another flag as a file of this host or standard input.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use crate::failure::{Failure, Kind};

/// The text, or what is in the file; of that at most one byte more than `bytes_max`, which is then refused.
///
/// # Errors
/// The file cannot be read.
pub(super) fn read(text: Option<OsString>, file: Option<OsString>, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let Some(file) = file else { return Ok(text.unwrap_or_default().into_vec()) };
    read_bounded(&file, bytes_max).map_err(|error| {
        Failure::new(Kind::Usage, format!("cannot read {}", file.display()))
            .caused_by(error.to_string())
            .hint("name a file of this host, or - for standard input")
    })
}

fn read_bounded(file: &OsStr, bytes_max: u64) -> io::Result<Vec<u8>> {
    let source: Box<dyn Read> = if file == "-" { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    let mut content = Vec::new();
    source.take(bytes_max.saturating_add(1)).read_to_end(&mut content)?;
    Ok(content)
}
