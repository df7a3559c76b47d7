//! A tool's answer, read while it comes: lines of JSON, and raw bytes that a line announced. For answers that do not fit
//! in memory; [`super::tool::collect`] is for those that do.
//!
//! The two ends run at once: [`feed`] calls the tool, the caller reads [`Answer`], and [`both`] says what went wrong when
//! one of them did.

use std::future::Future;
use std::io;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, DuplexStream};

use super::tool::{Tool, ToolError, ToolHost, ToolInput, garbled};

/// Bytes between the tool's call and its reader.
const PIPE_BYTES: usize = 128 * 1024;

/// Most bytes of one line: room for two paths of any bytes, and what belongs to them.
const LINE_BYTES_MAX: u64 = 128 * 1024;

/// The reading end of a tool's answer.
#[derive(Debug)]
pub(super) struct Answer {
    from: BufReader<DuplexStream>,
}

/// The writing end, for [`feed`].
#[derive(Debug)]
pub(super) struct Feed(DuplexStream);

/// The two ends of an answer.
pub(super) fn pair() -> (Feed, Answer) {
    let (feed, from) = tokio::io::duplex(PIPE_BYTES);
    (Feed(feed), Answer { from: BufReader::with_capacity(PIPE_BYTES, from) })
}

/// Calls the tool, whose answer goes to the other end.
pub(super) async fn feed(
    host: &impl ToolHost,
    tool: Tool,
    input: Option<ToolInput<'_>>,
    mut to: Feed,
) -> Result<(), ToolError> {
    host.call(tool, input, &mut to.0).await
}

/// Runs the call and its reader to their ends.
///
/// The reader's error counts when it is why the call had nobody left to answer; else the call's, which is why the answer
/// is not whole.
pub(super) async fn both<T, E: From<ToolError>>(
    call: impl Future<Output = Result<(), ToolError>>,
    read: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::join!(call, read) {
        (Ok(()), read) => read,
        (Err(ToolError::Output { source }), Err(error)) if source.kind() == io::ErrorKind::BrokenPipe => Err(error),
        (Err(error), _) => Err(error.into()),
    }
}

impl Answer {
    /// The next line.
    ///
    /// # Errors
    /// The answer is over, or it is another line.
    pub(super) async fn line<T: DeserializeOwned>(&mut self) -> Result<T, ToolError> {
        let mut line = Vec::new();
        (&mut self.from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await.map_err(lost)?;
        if line.pop() != Some(b'\n') {
            return Err(garbled("a line without an end"));
        }
        serde_json::from_slice(&line).map_err(|_| garbled("a line that is not of this tool"))
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// The answer is over before.
    pub(super) async fn bytes(&mut self, count: u64) -> Result<Vec<u8>, ToolError> {
        let mut bytes = Vec::new();
        (&mut self.from).take(count).read_to_end(&mut bytes).await.map_err(lost)?;
        if bytes.len() as u64 == count { Ok(bytes) } else { Err(garbled("less content than was announced")) }
    }

    /// Sees to it that nothing follows.
    ///
    /// # Errors
    /// Something does.
    pub(super) async fn end(mut self) -> Result<(), ToolError> {
        match self.from.fill_buf().await.map_err(lost)? {
            [] => Ok(()),
            _ => Err(garbled("more than its end")),
        }
    }
}

fn lost(source: io::Error) -> ToolError {
    ToolError::Lost { source }
}
