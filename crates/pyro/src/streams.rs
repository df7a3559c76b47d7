//! A guest's output on its way straight on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::progress::Painter;

/// Passes bytes on as they come. What pyro itself draws is cleared before the first of them.
#[derive(Debug)]
pub(crate) struct Live<'a, W> {
    inner: W,
    painter: &'a Painter,
    begun: bool,
}

impl<'a, W> Live<'a, W> {
    /// Passes bytes on to `inner`.
    pub(crate) fn new(inner: W, painter: &'a Painter) -> Self {
        Self { inner, painter, begun: false }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Live<'_, W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.begun {
            self.begun = true;
            self.painter.clear();
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
