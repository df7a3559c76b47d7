//! Standard input and output as the protocol's transport.
//!
//! The SDK serves one session. What comes before it has begun, and is none of its words, is answered here: a host that
//! asks for a method of another revision waits for an answer, and some wait for seconds when there is none.

use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorCode, ServerJsonRpcMessage};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::{ErrorData, RoleServer};

/// A transport whose session has not begun yet, or has.
pub(super) struct Patient<T> {
    inner: T,
    begun: bool,
}

impl<T> Patient<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, begun: false }
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Patient<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let message = self.inner.receive().await?;
            if self.begun {
                return Some(message);
            }
            match message {
                ClientJsonRpcMessage::Request(request)
                    if matches!(request.request, ClientRequest::CustomRequest(_)) =>
                {
                    let ClientRequest::CustomRequest(custom) = request.request else { continue };
                    let error = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, custom.method, None);
                    // A host that does not listen is gone; the next receive says so.
                    drop(self.inner.send(ServerJsonRpcMessage::error(error, Some(request.id))).await);
                }
                ClientJsonRpcMessage::Request(request) => {
                    self.begun =
                        !matches!(request.request, ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_));
                    return Some(ClientJsonRpcMessage::Request(request));
                }
                // Notifications and answers before a session has begun belong to none.
                _ => {}
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
