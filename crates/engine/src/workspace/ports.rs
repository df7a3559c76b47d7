//! `workspace port`: ports of the guest that can be reached on this host's loopback; and who holds one that is taken.

use std::path::Path;

use super::client::ClientError;
use super::directory::{Workspace, Workspaces};
use super::error::WorkspaceError;
use crate::store::service_record::PortPair;
use crate::store::workspace_record::WorkspacePhase;
use crate::supervisor::protocol::{Ask, PortAsk, PublishedPort, Refusal, RefusalKind, ServerMessage};

/// The tables of sockets of this host.
const SOCKET_TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// What the state of a socket that listens is in them.
const LISTENS: &str = "0A";

/// Who holds a port of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortHolder {
    /// The workspace itself, perhaps for one of its services.
    ThisWorkspace {
        /// The service.
        service: Option<String>,
    },
    /// Another workspace of this user.
    Workspace {
        /// What it is called.
        called: String,
    },
    /// Some other program.
    Process {
        /// Its process.
        pid: u32,
        /// Its name.
        program: String,
    },
    /// Nobody whom this user may see.
    Unknown,
}

/// Reads `GUEST` or `HOST:GUEST`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_port(text: &str) -> Result<PortAsk, &'static str> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    const WRONG: &str = "write a port of the guest such as 8000, or HOST:GUEST such as 8080:8000";
    match text.split_once(':') {
        Some((host, guest)) => {
            let (host, guest) = port(host).zip(port(guest)).ok_or(WRONG)?;
            Ok(PortAsk { guest, host: Some(host) })
        }
        None => Ok(PortAsk { guest: port(text).ok_or(WRONG)?, host: None }),
    }
}

impl Workspaces<'_> {
    /// Publishes a port.
    ///
    /// # Errors
    /// Somebody holds the port of the host.
    pub async fn add_port(&self, word: &str, ask: PortAsk) -> Result<(Workspace, PortPair), WorkspaceError> {
        let workspace = self.find(word)?;
        let connection = workspace.connect()?;
        match connection.ask(Ask::PortAdd(ask)).await {
            Ok(ServerMessage::Port { pair }) => Ok((workspace, pair)),
            Ok(_) => Err(connection.nonsense().into()),
            Err(error) => Err(self.name_holder(error, &workspace).await),
        }
    }

    /// Ends that, and the connections through it.
    ///
    /// # Errors
    /// No such port is published.
    pub async fn remove_port(&self, word: &str, host: u16) -> Result<Workspace, WorkspaceError> {
        let workspace = self.find(word)?;
        workspace.connect()?.ask(Ask::PortRemove { host }).await?;
        Ok(workspace)
    }

    /// The published ports; a workspace that does not run has none.
    ///
    /// # Errors
    /// There is no such workspace.
    pub async fn ports(&self, word: &str) -> Result<(Workspace, Vec<PublishedPort>), WorkspaceError> {
        let workspace = self.find(word)?;
        let ports = published(&workspace).await?;
        Ok((workspace, ports))
    }

    /// Adds who holds the port to a refusal for want of one.
    pub(super) async fn name_holder(&self, error: ClientError, workspace: &Workspace) -> WorkspaceError {
        let ClientError::Refused(Refusal { kind: RefusalKind::PortTaken(port), .. }) = error else {
            return error.into();
        };
        WorkspaceError::PortTaken { port, holder: self.holder(port, workspace).await }
    }

    async fn holder(&self, port: u16, own: &Workspace) -> PortHolder {
        for workspace in self.list().unwrap_or_default() {
            let ports = published(&workspace).await.unwrap_or_default();
            if let Some(found) = ports.into_iter().find(|one| one.pair.host == port) {
                return match workspace.record.id == own.record.id {
                    true => PortHolder::ThisWorkspace { service: found.service },
                    false => PortHolder::Workspace { called: workspace.called().to_owned() },
                };
            }
        }
        let tables = SOCKET_TABLES.map(|table| std::fs::read_to_string(table).unwrap_or_default());
        let inodes: Vec<&str> = tables.iter().flat_map(|table| listeners(table, port)).collect();
        process_of(&inodes).unwrap_or(PortHolder::Unknown)
    }
}

async fn published(workspace: &Workspace) -> Result<Vec<PublishedPort>, WorkspaceError> {
    if workspace.state.phase != WorkspacePhase::Running {
        return Ok(Vec::new());
    }
    let connection = workspace.connect()?;
    match connection.ask(Ask::Ports).await? {
        ServerMessage::Ports { ports } => Ok(ports),
        _ => Err(connection.nonsense().into()),
    }
}

/// The inodes of the sockets of a table that listen at a port.
fn listeners(table: &str, port: u16) -> impl Iterator<Item = &str> {
    let ending = format!(":{port:04X}");
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace();
        let (local, state) = (words.nth(1)?, words.nth(1)?);
        let inode = words.nth(5)?;
        (local.ends_with(&ending) && state == LISTENS).then_some(inode)
    })
}

/// The process that has one of these sockets open, as far as this user may see.
fn process_of(inodes: &[&str]) -> Option<PortHolder> {
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let has_one = |path: &Path| {
            std::fs::read_link(path).is_ok_and(|link| links.iter().any(|wanted| link.as_os_str() == wanted.as_str()))
        };
        if descriptors.flatten().any(|descriptor| has_one(&descriptor.path())) {
            let program = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(PortHolder::Process { pid, program: program.trim_end().to_owned() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{PortAsk, PortHolder, SOCKET_TABLES, listeners, parse_port, process_of};

    #[test]
    fn ports_are_read() {
        assert_eq!(parse_port("80"), Ok(PortAsk { guest: 80, host: None }));
        assert_eq!(parse_port("8080:80"), Ok(PortAsk { guest: 80, host: Some(8080) }));
        for wrong in ["", "0", "0:80", "80:0", "80:", ":80", "a", "127.0.0.1:80:80", "65536", "+80x"] {
            assert!(parse_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_listens_is_found_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let tables = SOCKET_TABLES.map(|table| std::fs::read_to_string(table).unwrap());
            let inodes: Vec<&str> = tables.iter().flat_map(|table| listeners(table, port)).collect();
            assert_eq!(inodes.len(), 1, "{address}");
            let Some(PortHolder::Process { pid, .. }) = process_of(&inodes) else { panic!("nobody") };
            assert_eq!(pid, std::process::id());
        }
        assert_eq!(process_of(&[]), None);
    }
}
