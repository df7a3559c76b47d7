//! Which changes of a workspace somebody has looked at or taken home: what a delete must not lose without a word.
//!
//! A diff or an export of everything names the patch by its digest. A delete makes the patch once more: the same digest
//! means that nothing came to it since.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ring::digest::{Context as Digest, SHA256};
use tokio::io::AsyncWrite;

use super::client::{ClientError, Connection};
use super::diff::{DiffError, DiffRequest, patch};
use super::tool::ToolHost;
use crate::store::hex;
use crate::supervisor::protocol::Ask;

/// Passes a patch on and takes its digest.
pub struct Seen<'a> {
    inner: Option<&'a mut (dyn AsyncWrite + Unpin + Send)>,
    digest: Digest,
}

impl std::fmt::Debug for Seen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl<'a> Seen<'a> {
    /// Passes it on to `inner`, if to anyone.
    #[must_use]
    pub fn new(inner: Option<&'a mut (dyn AsyncWrite + Unpin + Send)>) -> Self {
        Self { inner, digest: Digest::new(&SHA256) }
    }

    /// Tells the workspace that its whole patch, which went through here, was seen.
    ///
    /// # Errors
    /// The workspace does not answer any more.
    pub async fn tell(self, connection: &Connection) -> Result<(), ClientError> {
        tell(connection, self.digest()).await
    }

    /// The digest of what went through.
    #[must_use]
    pub fn digest(self) -> String {
        hex::encode(self.digest.finish().as_ref())
    }
}

/// Tells a workspace that the whole patch of this digest was seen.
///
/// # Errors
/// The workspace does not answer any more.
pub async fn tell(connection: &Connection, digest: String) -> Result<(), ClientError> {
    connection.ask(Ask::ChangesSeen { digest }).await.map(drop)
}

/// The digest of all changes as they are now.
///
/// # Errors
/// The workspace cannot be asked.
pub async fn current(host: &impl ToolHost) -> Result<String, DiffError> {
    let mut writer = Seen::new(None);
    patch(host, &DiffRequest::default(), &mut writer).await?;
    Ok(writer.digest())
}

/// How many changed paths of a workspace nobody has seen yet. `seen` is the digest of what was seen last.
///
/// # Errors
/// The workspace cannot be asked.
pub async fn unseen(connection: &Connection, seen: Option<&str>) -> Result<usize, DiffError> {
    let mut writer = Seen::new(None);
    let summary = patch(connection, &DiffRequest::default(), &mut writer).await?;
    let known = seen.is_some_and(|seen| seen == writer.digest());
    Ok(if known { 0 } else { summary.files.len() })
}

impl AsyncWrite for Seen<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = match &mut this.inner {
            Some(inner) => ready!(Pin::new(inner).poll_write(context, bytes))?,
            None => bytes.len(),
        };
        this.digest.update(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Some(inner) => Pin::new(inner).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Some(inner) => Pin::new(inner).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}
