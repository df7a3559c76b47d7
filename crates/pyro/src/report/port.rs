//! The public shapes of published ports.

use pyro_engine::store::service_record::PortPair;
use pyro_engine::supervisor::protocol::PublishedPort;
use serde::Serialize;

use super::service::PortRow;
use super::{Report, units};

/// A port that was just published.
#[derive(Debug, Serialize)]
pub(crate) struct PortReport {
    workspace: String,
    #[serde(flatten)]
    port: PortRow,
}

impl PortReport {
    pub(crate) fn new(workspace: String, pair: PortPair) -> Self {
        Self { workspace, port: pair.into() }
    }
}

impl Report for PortReport {
    fn text(&self, _: bool) -> String {
        let PortRow { host_port, guest_port } = self.port;
        format!("127.0.0.1:{host_port} of this host leads to port {guest_port} of the guest\n")
    }
}

/// A port that is published no more.
#[derive(Debug, Serialize)]
pub(crate) struct PortRemovedReport {
    pub(crate) workspace: String,
    pub(crate) host_port: u16,
    pub(crate) removed: bool,
}

impl Report for PortRemovedReport {
    fn text(&self, _: bool) -> String {
        format!("port {} of this host is published no more\n", self.host_port)
    }
}

/// The published ports of a workspace.
#[derive(Debug, Serialize)]
pub(crate) struct PortList {
    workspace: String,
    ports: Vec<PublishedRow>,
}

#[derive(Debug, Serialize)]
struct PublishedRow {
    #[serde(flatten)]
    port: PortRow,
    /// The service it was published with.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// Connections through it now.
    connections: u64,
}

impl PortList {
    pub(crate) fn new(workspace: String, ports: Vec<PublishedPort>) -> Self {
        let row = |published: PublishedPort| PublishedRow {
            port: published.pair.into(),
            service: published.service,
            connections: published.connections,
        };
        Self { workspace, ports: ports.into_iter().map(row).collect() }
    }
}

impl Report for PortList {
    fn text(&self, _: bool) -> String {
        if self.ports.is_empty() {
            return "no published ports; 'pyro workspace port add' publishes one\n".to_owned();
        }
        let mut rows = vec![["HOST", "GUEST", "SERVICE", "CONNECTIONS"].map(str::to_owned)];
        rows.extend(self.ports.iter().map(|row| {
            [
                format!("127.0.0.1:{}", row.port.host_port),
                row.port.guest_port.to_string(),
                row.service.clone().unwrap_or_else(|| "-".to_owned()),
                row.connections.to_string(),
            ]
        }));
        units::columns(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::{PortList, PortPair, PublishedPort, Report};

    #[test]
    fn a_list_shows_where_each_leads() {
        let ports = vec![
            PublishedPort { pair: PortPair { host: 8080, guest: 80 }, service: Some("web".to_owned()), connections: 2 },
            PublishedPort { pair: PortPair { host: 40_123, guest: 5432 }, service: None, connections: 0 },
        ];
        let list = PortList::new("0123456789ab".to_owned(), ports);
        insta::assert_snapshot!("ports", list.text(false));
        insta::assert_json_snapshot!("ports-json", list);
    }
}
