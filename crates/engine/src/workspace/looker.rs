//! Looking for a workspace's secrets in what goes to its user: only the supervisor knows them, so it is asked.
//!
//! A client never hears a value. It sends what it has, item by item, and hears whose secrets are in it, or gets it back
//! without them.

use pyro_wire::Stream;
use pyro_wire::frame::DATA_BYTES_MAX;

use super::client::{Connection, tool_error};
use super::tool::ToolError;
use crate::store::workspace_record::WorkspaceRecord;
use crate::supervisor::notes::read_json;
use crate::supervisor::protocol::{Ask, ServerMessage};
#[cfg(test)]
use crate::supervisor::secrets::Vault;
use crate::supervisor::socket::{FrameReader, FrameWriter, Received};

/// Something with secrets of the workspace in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretHolder {
    /// Its path, without secrets.
    pub path: Vec<u8>,
    /// Their names.
    pub secrets: Vec<String>,
}

/// The way to somebody who looks.
#[derive(Debug)]
pub enum Looker {
    /// A supervisor: two connections, of which only the second gets bytes back.
    There {
        /// The workspace.
        connection: Connection,
        /// Hears whose secrets are in something.
        looking: (FrameReader, FrameWriter),
    },
    /// These secrets, for tests.
    #[cfg(test)]
    Here {
        /// The secrets.
        vault: Vault,
        /// What was sent.
        fed: Vec<u8>,
    },
}

impl Looker {
    /// Asks the supervisor of a workspace; none where that has no secrets.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) async fn open(connection: &Connection) -> Result<Option<Self>, super::client::ClientError> {
        // A record that is just being removed has no secrets any more.
        let record = read_json::<WorkspaceRecord>(&connection.dir.record());
        if record.is_ok_and(|record| record.secrets.is_empty()) {
            return Ok(None);
        }
        let looking = connection.open(Ask::Look { cut: false }).await?;
        Ok(Some(Self::There { connection: connection.clone(), looking }))
    }

    /// Names of the secrets in these parts, none of which goes on in the next.
    ///
    /// # Errors
    /// The supervisor does not answer.
    pub async fn find(&mut self, parts: &[&[u8]]) -> Result<Vec<String>, ToolError> {
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                // No secret has a zero byte in it.
                self.feed(&[0]).await?;
            }
            self.feed(part).await?;
        }
        self.found().await
    }

    /// Sends a piece of what is to be looked through; [`Self::found`] ends it.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub async fn feed(&mut self, bytes: &[u8]) -> Result<(), ToolError> {
        match self {
            Self::There { looking: (_, writer), .. } => {
                for part in bytes.chunks(DATA_BYTES_MAX) {
                    writer.data(Stream::Stdin, part.to_vec()).await.map_err(|source| ToolError::Lost { source })?;
                }
                Ok(())
            }
            #[cfg(test)]
            Self::Here { fed, .. } => {
                fed.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Names of the secrets in what was sent since the last time.
    ///
    /// # Errors
    /// The supervisor does not answer.
    pub async fn found(&mut self) -> Result<Vec<String>, ToolError> {
        match self {
            Self::There { connection, looking: (reader, writer) } => {
                writer.data(Stream::Stdin, Vec::new()).await.map_err(|source| ToolError::Lost { source })?;
                match reader.next().await {
                    Ok(Received::Message(ServerMessage::Looked { found })) => Ok(found),
                    _ => Err(tool_error(connection.nonsense())),
                }
            }
            #[cfg(test)]
            Self::Here { vault, fed } => Ok(vault.find(&std::mem::take(fed))),
        }
    }

    /// These bytes without secrets.
    ///
    /// # Errors
    /// The supervisor does not answer.
    pub async fn cut(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ToolError> {
        match self {
            Self::There { connection, .. } => cut(connection, bytes).await,
            #[cfg(test)]
            Self::Here { vault, .. } => Ok(vault.cut_bytes(bytes)),
        }
    }
}

/// Sends everything and receives at the same time: either side stops when the other does not take what it says.
async fn cut(connection: &Connection, bytes: &[u8]) -> Result<Vec<u8>, ToolError> {
    let (mut reader, mut writer) = connection.open(Ask::Look { cut: true }).await.map_err(tool_error)?;
    let send = async {
        for part in bytes.chunks(DATA_BYTES_MAX) {
            writer.data(Stream::Stdin, part.to_vec()).await?;
        }
        writer.data(Stream::Stdin, Vec::new()).await
    };
    let receive = async {
        let mut out = Vec::new();
        loop {
            match reader.next().await {
                Ok(Received::Data(_, bytes)) => out.extend(bytes),
                Ok(Received::Message(ServerMessage::Looked { .. })) => return Ok(out),
                _ => return Err(tool_error(connection.nonsense())),
            }
        }
    };
    let (sent, received) = tokio::join!(send, receive);
    sent.map_err(|source| ToolError::Lost { source })?;
    received
}

#[cfg(test)]
mod tests {
    use super::super::diff::{DiffRequest, Secrecy, patch};
    use super::super::export::{ExportError, ExportRequest, Output, export, export_patch};
    use super::super::files::{ReadRange, read};
    use super::super::guest_path::GuestPath;
    use super::super::seen::show;
    use super::super::tool::CannedHost;
    use super::SecretHolder;
    use crate::store::crossing_record::Crossing;
    use crate::supervisor::secrets::{Secrets, Vault};

    fn guest(answer: String) -> CannedHost {
        let mut secrets = Secrets::default();
        secrets.insert("TOKEN", b"s3cr3t".to_vec().into()).unwrap();
        CannedHost { secrets: Some(Vault::new(secrets)), ..CannedHost::answering(answer) }
    }

    fn changed(path: &str, content: &str) -> String {
        let length = content.len();
        let version = format!(r#"{{"kind":"file","mode":420,"size_bytes":{length}}}"#);
        format!("{{\"change\":{{\"path\":\"{path}\",\"new\":{version},\"content\":\"sent\"}}}}\n{content}")
    }

    const END: &str = "{\"end\":{\"ignored\":0,\"notes\":[]}}\n";

    #[tokio::test]
    async fn a_patch_that_is_shown_has_no_secret_and_names_who_holds_one() {
        let changes = [changed("a", "plain\n"), changed("b", "x\0s3cr3t"), changed("c-s3cr3t", "my s3cr3t\n")].concat();
        let host = guest(changes + END);
        let mut text = Vec::new();
        let summary = show(&host, &DiffRequest::default(), &mut text).await.unwrap().summary;
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains("+plain\n") && text.contains("+my [secret TOKEN]\n") && !text.contains("s3cr3t"),
            "{text}"
        );
        assert!(text.contains("Binary files differ, and hold a secret\n") && !text.contains("GIT binary"), "{text}");
        let holder = |path: &str| SecretHolder { path: path.into(), secrets: vec!["TOKEN".to_owned()] };
        assert_eq!(summary.secrets, [holder("b"), holder("c-[secret TOKEN]")]);
        assert_eq!(summary.files[2].change.path, b"c-[secret TOKEN]");
        let kept = patch(&host, &DiffRequest::default(), Secrecy::Keep, &mut tokio::io::sink()).await.unwrap();
        assert_eq!(kept.digest, summary.digest, "what was seen has the same name");
    }

    #[tokio::test]
    async fn what_holds_a_secret_is_not_exported_unless_it_is_asked_for() {
        let home = tempfile::tempdir().unwrap();
        let mut output =
            Output { path: home.path().join("out"), called: "out".to_owned(), force: false, secrets: false };
        let host = guest(changed("a", "s3cr3t\n") + END);
        let refused = export_patch(&host, &DiffRequest::default(), &output).await.unwrap_err();
        assert_eq!(refused.to_string(), "a holds the secret TOKEN");

        let entry = r#"{"entry":{"path":"","kind":{"file":{"size_bytes":10}},"mode":420,"modified_unix_ns":0}}"#;
        let files = guest(format!("{entry}\nmy s3cr3t!{{\"end\":{{\"notes\":0}}}}\n"));
        let request = ExportRequest { path: GuestPath::workspace(), output: output.clone() };
        let refused = export(&files, &request, &|_| ()).await.unwrap_err();
        assert!(matches!(refused, ExportError::Secrets { count: 1, .. }), "{refused}");
        assert!(host.crossed.lock().unwrap().is_empty() && files.crossed.lock().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);

        output.secrets = true;
        export(&files, &ExportRequest { path: GuestPath::workspace(), output }, &|_| ()).await.unwrap();
        assert_eq!(std::fs::read(home.path().join("out")).unwrap(), b"my s3cr3t!");
        assert!(matches!(files.crossed.lock().unwrap()[..], [Crossing::Export(_)]));
    }

    #[tokio::test]
    async fn a_file_that_is_read_goes_on_where_it_is_in_the_guest() {
        let head = r#"{"size_bytes":100,"mode":420,"modified_unix_ns":0,"is_text":true,"offset_bytes":0,"at_end":false,"content_bytes":9}"#;
        let (host, path) = (guest(format!("{head}\na s3cr3t\n")), GuestPath::workspace());
        let part = read(&host, &path, ReadRange::Bytes { offset: 0 }, 9).await.unwrap();
        assert_eq!(
            (part.content.as_slice(), part.next()),
            (&b"a [secret TOKEN]\n"[..], Some(ReadRange::Bytes { offset: 9 }))
        );
        assert_eq!(part.secrets, ["TOKEN"]);
    }
}
