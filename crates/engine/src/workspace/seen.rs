//! Which changes of a workspace somebody has looked at or taken home: what a delete must not lose without a word.
//!
//! A diff or an export of everything names the patch by its digest, and the files that are too large for it by their state. A
//! delete makes the patch once more: the same name means that nothing came to it since.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ring::digest::{Context as Digest, SHA256};
use tokio::io::AsyncWrite;

use super::client::{ClientError, Connection};
use super::diff::{ChangeExtent, DiffError, DiffRequest, DiffSummary, Secrecy, patch};
use super::tool::ToolHost;
use crate::store::crossing_record::{CrossedPatch, Crossing};
use crate::store::hex;
use crate::supervisor::protocol::Ask;

/// Passes a patch on and takes its digest.
pub(super) struct Seen<'a> {
    inner: &'a mut (dyn AsyncWrite + Unpin + Send),
    digest: Digest,
    bytes: u64,
}

/// A patch that was shown to somebody.
#[derive(Debug)]
pub struct Shown {
    /// What is in it.
    pub summary: DiffSummary,
}

/// Writes the patch of what changed to `out`, for somebody to look at, and writes down that it crossed the border.
///
/// # Errors
/// See [`DiffError`].
pub async fn show(
    host: &impl ToolHost,
    request: &DiffRequest,
    out: &mut (dyn AsyncWrite + Unpin + Send),
) -> Result<Shown, DiffError> {
    let mut seen = Seen::new(out);
    let summary = patch(host, request, Secrecy::Cut, &mut seen).await?;
    let bytes = seen.bytes;
    let digest = seen.digest();
    if bytes > 0 {
        let entries = summary.files.len() as u64;
        host.cross(Crossing::PatchOut(CrossedPatch { path: None, entries, bytes, digest })).await?;
    }
    Ok(Shown { summary })
}

impl Shown {
    /// Tells the workspace that its whole patch, which this is, was seen.
    ///
    /// # Errors
    /// The workspace does not answer any more.
    pub async fn tell(&self, connection: &Connection) -> Result<(), ClientError> {
        tell(connection, name(&self.summary)).await
    }
}

impl std::fmt::Debug for Seen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl<'a> Seen<'a> {
    /// Passes it on to `inner`.
    pub(super) fn new(inner: &'a mut (dyn AsyncWrite + Unpin + Send)) -> Self {
        Self { inner, digest: Digest::new(&SHA256), bytes: 0 }
    }

    /// The digest of what went through.
    #[must_use]
    pub(super) fn digest(self) -> String {
        hex::encode(self.digest.finish().as_ref())
    }
}

/// Names all changes: a patch by its digest, and the files that it does not hold because they are too large. What no patch was
/// made of has no name.
#[must_use]
pub fn name(summary: &DiffSummary) -> Option<String> {
    let large: Vec<_> = summary.files.iter().filter(|file| file.extent == Some(ChangeExtent::TooLarge)).collect();
    if large.is_empty() {
        return summary.digest.clone();
    }
    let mut digest = Digest::new(&SHA256);
    digest.update(summary.digest.as_ref()?.as_bytes());
    for file in large {
        let new = file.change.new.as_ref().map(|new| (new.kind, new.mode, new.size_bytes));
        digest.update(format!("{:?} {new:?} {:?}\n", file.change.path, file.changed_unix_ns).as_bytes());
    }
    Some(hex::encode(digest.finish().as_ref()))
}

/// Tells a workspace that all changes of this name were seen; without a name nothing was.
///
/// # Errors
/// The workspace does not answer any more.
pub async fn tell(connection: &Connection, name: Option<String>) -> Result<(), ClientError> {
    let Some(digest) = name else { return Ok(()) };
    connection.ask(Ask::ChangesSeen { digest }).await.map(drop)
}

/// The name of all changes as they are now.
///
/// # Errors
/// The workspace cannot be asked.
pub async fn current(host: &impl ToolHost) -> Result<Option<String>, DiffError> {
    look(host).await.map(|(name, _)| name)
}

async fn look(host: &impl ToolHost) -> Result<(Option<String>, DiffSummary), DiffError> {
    let summary = patch(host, &DiffRequest::default(), Secrecy::Keep, &mut tokio::io::sink()).await?;
    Ok((name(&summary), summary))
}

/// How many changed paths of a workspace nobody has seen yet. `seen` is the name of what was seen last.
///
/// # Errors
/// The workspace cannot be asked.
pub async fn unseen(host: &impl ToolHost, seen: Option<&str>) -> Result<usize, DiffError> {
    let (now, summary) = look(host).await?;
    Ok(if seen.is_some() && seen == now.as_deref() { 0 } else { summary.files.len() })
}

impl AsyncWrite for Seen<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut *this.inner).poll_write(context, bytes))?;
        this.digest.update(&bytes[..count]);
        this.bytes += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tool::CannedHost;
    use super::{current, unseen};

    const END: &str = r#"{"end":{"ignored":0,"notes":[]}}"#;

    fn guest(size_bytes: u64, changed_unix_ns: i64, text: &str) -> CannedHost {
        let large = format!(
            r#"{{"change":{{"path":"large","new":{{"kind":"file","mode":420,"size_bytes":{size_bytes}}},"content":"too_large","changed_unix_ns":{changed_unix_ns}}}}}"#
        );
        let length = text.len();
        let small = format!(
            r#"{{"change":{{"path":"small","new":{{"kind":"file","mode":420,"size_bytes":{length}}},"content":"sent"}}}}"#
        );
        CannedHost::answering(format!("{large}\n{small}\n{text}{END}\n"))
    }

    /// Whether the second state counts as seen when the first was looked at.
    async fn check(seen: (u64, i64, &str), now: (u64, i64, &str), expected: usize) {
        let seen = current(&guest(seen.0, seen.1, seen.2)).await.unwrap();
        assert_eq!(unseen(&guest(now.0, now.1, now.2), seen.as_deref()).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn what_comes_later_was_not_seen_in_large_files_too() {
        let before = (20 << 20, 5, "a\n");
        check(before, before, 0).await;
        check(before, (20 << 20, 6, "a\n"), 2).await;
        check(before, (21 << 20, 5, "a\n"), 2).await;
        check(before, (20 << 20, 5, "b\n"), 2).await;
        assert_eq!(unseen(&guest(1 << 30, 0, ""), None).await.unwrap(), 2);
        assert_eq!(unseen(&CannedHost::answering(format!("{END}\n")), None).await.unwrap(), 0);
    }
}
