//! Standard input and output as the protocol's transport: one message a line, each of bounded length, each answered.
//!
//! The SDK serves one session, and only what is a message. The rest is answered here: a host that asks for a method of
//! another revision before its session has begun waits for an answer, some for seconds; and a call that is too long or
//! nested too deeply would be waited for until the host's patience ends.

use std::io;

use rmcp::RoleServer;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, GetMeta, ProtocolVersion};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::envelope::{Envelope, Flaw};
use super::server::refusal;

/// Longest message in MiB: the largest file that can be written at once, with what JSON adds to it.
const LINE_MIB_MAX: usize = 32;

/// The same in bytes.
const LINE_BYTES_MAX: usize = LINE_MIB_MAX << 20;

/// A buffer that grew beyond this for one message is given back after it, in bytes.
const BUFFER_BYTES_KEPT: usize = 256 * 1024;

/// Messages that wait to be written.
const WAITING_MAX: usize = 64;

/// The two streams, a message a line in each direction.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// What of the next line is there already.
    line: Vec<u8>,
    /// What was seen of a line that is too long to be kept.
    skipped: Option<Envelope>,
    begun: bool,
    /// An answer of our own that is still to be sent.
    owed: Option<Vec<u8>>,
    outbox: Option<mpsc::Sender<Outgoing>>,
    writing: JoinHandle<()>,
}

/// A line to be written, and who wants to know that it was.
struct Outgoing {
    line: Vec<u8>,
    written: Option<oneshot::Sender<()>>,
}

impl<R: AsyncRead + Send + Unpin> Lines<R> {
    /// A transport over these streams. Must be called in a runtime: a task of its own writes, so that no line is ever
    /// broken off by what else goes on.
    pub(super) fn new(reader: R, writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let (outbox, lines) = mpsc::channel(WAITING_MAX);
        let writing = tokio::spawn(write(writer, lines));
        let reader = BufReader::with_capacity(64 * 1024, reader);
        Self { reader, line: Vec::new(), skipped: None, begun: false, owed: None, outbox: Some(outbox), writing }
    }

    /// The next message that the SDK can read; none at the end of input. Cancel-safe: what was read stays.
    async fn next(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            self.pay().await?;
            let available = self.reader.fill_buf().await.ok()?;
            if available.is_empty() {
                // What is left is half a message: nobody can know what it was to be.
                return None;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let count = end.unwrap_or(available.len());
            match &mut self.skipped {
                Some(envelope) => envelope.look(&available[..count]),
                None if self.line.len() + count > LINE_BYTES_MAX => {
                    let mut envelope = Envelope::of(&std::mem::take(&mut self.line));
                    envelope.look(&available[..count]);
                    self.skipped = Some(envelope);
                }
                None => self.line.extend_from_slice(&available[..count]),
            }
            self.reader.consume(count + usize::from(end.is_some()));
            if end.is_some()
                && let Some(message) = self.whole()
            {
                return Some(message);
            }
        }
    }

    /// What the line that just ended is, if it is a message; otherwise an answer may be owed.
    fn whole(&mut self) -> Option<ClientJsonRpcMessage> {
        if let Some(envelope) = self.skipped.take() {
            self.owe(envelope.answer(Flaw::TooLong { limit_mib: LINE_MIB_MAX }));
            return None;
        }
        let mut line = std::mem::take(&mut self.line);
        // A mark of the byte order is no part of a text.
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
        let message = if text.is_empty() { None } else { self.parse(text) };
        if line.capacity() <= BUFFER_BYTES_KEPT {
            line.clear();
            self.line = line;
        }
        message
    }

    fn parse(&mut self, line: &[u8]) -> Option<ClientJsonRpcMessage> {
        match serde_json::from_slice(line) {
            Ok(message) => Some(message),
            Err(_) => {
                let envelope = Envelope::of(line);
                self.owe(envelope.answer(envelope.flaw(line)));
                None
            }
        }
    }

    fn owe(&mut self, answer: Option<serde_json::Value>) {
        self.owed = answer.map(|answer| answer.to_string().into_bytes());
    }

    /// Sends an answer of our own. None when nobody can be told anything any more.
    async fn pay(&mut self) -> Option<()> {
        if self.owed.is_some() {
            let place = self.outbox.as_ref()?.reserve().await.ok()?;
            if let Some(line) = self.owed.take() {
                place.send(Outgoing { line, written: None });
            }
        }
        Some(())
    }

    /// What the SDK is to see of a message that came before a session has begun.
    fn before_the_session(&mut self, message: ClientJsonRpcMessage) -> Option<ClientJsonRpcMessage> {
        // Notifications and answers belong to no session yet.
        let ClientJsonRpcMessage::Request(request) = message else { return None };
        if let ClientRequest::CustomRequest(custom) = &request.request {
            self.owe(Some(json!({"jsonrpc": "2.0", "id": request.id, "error": refusal(&custom.method)})));
            return None;
        }
        self.begun = begins(&request.request);
        Some(ClientJsonRpcMessage::Request(request))
    }
}

/// Whether the SDK's session begins with this request: with the handshake of the one era, or with the first request of the
/// other, which says all that the handshake did.
fn begins(request: &ClientRequest) -> bool {
    match request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => false,
        request => {
            let meta = request.get_meta();
            let version = meta.protocol_version();
            meta.missing_required_keys(&ProtocolVersion::NO_INITIALIZE).is_empty()
                && version.is_some_and(|version| ProtocolVersion::KNOWN_VERSIONS.contains(&version))
        }
    }
}

impl<R: AsyncRead + Send + Unpin> Transport<RoleServer> for Lines<R> {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let outbox = self.outbox.clone();
        async move {
            let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
            let line = serde_json::to_vec(&item)?;
            let (written, done) = oneshot::channel();
            let outbox = outbox.ok_or_else(gone)?;
            outbox.send(Outgoing { line, written: Some(written) }).await.map_err(|_| gone())?;
            done.await.map_err(|_| gone())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let message = self.next().await?;
            if self.begun {
                return Some(message);
            }
            if let Some(message) = self.before_the_session(message) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.outbox = None;
        // It ends when everything is written, or nobody reads it.
        drop((&mut self.writing).await);
        Ok(())
    }
}

/// Writes lines until there are none to come, or nobody reads them.
async fn write(mut writer: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Outgoing>) {
    while let Some(Outgoing { mut line, written }) = lines.recv().await {
        line.push(b'\n');
        if writer.write_all(&line).await.is_err() || writer.flush().await.is_err() {
            return;
        }
        if let Some(written) = written {
            // A caller that does not wait for it does not care.
            let _ = written.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ClientJsonRpcMessage;
    use rmcp::transport::Transport;
    use serde_json::Value;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, duplex, split};

    use super::{LINE_BYTES_MAX, Lines};

    /// What the SDK sees of the input, and what is answered without it.
    async fn seen(input: Vec<u8>) -> (Vec<ClientJsonRpcMessage>, Vec<Value>) {
        let (ours, theirs) = duplex(1 << 20);
        let (reader, writer) = split(ours);
        let (answers, mut requests) = split(theirs);
        tokio::spawn(async move { requests.write_all(&input).await });
        let mut lines = Lines::new(reader, writer);
        let mut messages = Vec::new();
        let reading = tokio::time::timeout(std::time::Duration::from_secs(20), async {
            while let Some(message) = lines.receive().await {
                messages.push(message);
                if messages.len() == 2 {
                    break;
                }
            }
        });
        reading.await.unwrap();
        Transport::<rmcp::RoleServer>::close(&mut lines).await.unwrap();
        drop(lines);
        let mut told = Vec::new();
        let mut answers = BufReader::new(answers).lines();
        while let Some(line) = answers.next_line().await.unwrap() {
            told.push(serde_json::from_str(&line).unwrap());
        }
        (messages, told)
    }

    #[tokio::test]
    async fn what_is_no_message_is_answered_and_what_follows_is_read() {
        let begin = r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let mut input = Vec::new();
        for line in [
            r#"{"jsonrpc":"2.0","id":8,"method":"server/frobnicate"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#,
            "",
            begin,
            "no JSON",
            r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
        ] {
            input.extend_from_slice(line.as_bytes());
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(br#"{"method":"tools/call","params":{"x":""#);
        input.resize(input.len() + LINE_BYTES_MAX, b'x');
        input.extend_from_slice(b"\"},\"jsonrpc\":\"2.0\",\"id\":9}\n");
        input.extend_from_slice(ping.as_bytes());
        input.push(b'\n');
        let (messages, told) = seen(input).await;
        assert_eq!(messages.len(), 2, "{messages:?}");
        let ids: Vec<&Value> = told.iter().map(|answer| &answer["id"]).collect();
        assert_eq!(ids, [&Value::from(8), &Value::Null, &Value::from(9)]);
        assert_eq!(told[0]["error"]["code"], -32601);
        assert!(told[2]["error"]["message"].as_str().unwrap().contains("longer than 32 MiB"), "{}", told[2]);
    }
}
