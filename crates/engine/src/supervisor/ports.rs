//! Published ports: what connects to a port of this host's loopback is carried to a port of the guest's.
//!
//! One task a port accepts on 127.0.0.1 and ::1 and owns the connections through it, so that they end with it. A connection
//! is a stream of the link to the agent (`guest_link/connections.rs`); each direction flows under credit and ends by
//! itself. Somebody must be connected to before it is known whether the guest has anybody at its port: where it has none, the
//! connection is accepted and then broken off.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyro_wire::connection::CONNECTIONS_MAX;
use pyro_wire::frame::DATA_BYTES_MAX;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use super::events::Loop;
use super::guest_link::{ConnectionEvent, ConnectionReader, ConnectionWriter};
use super::protocol::{PortAsk, PublishedPort, Refusal, RefusalKind};
use crate::store::crossing_record::Crossing;
use crate::store::crossings::CrossingNotes;
use crate::store::service_record::PortPair;
use crate::store::workspace_record::{NetworkPolicy, WorkspaceRecord};

/// Ports that one workspace may publish.
pub const PORTS_MAX: usize = 64;

/// How often a free port is looked for that is free for both families.
const FREE_PORT_TRIES: usize = 32;

/// How many may wait at a published port until they are taken.
const ACCEPT_QUEUE_MAX: i32 = 1024;

/// How long it is waited before it is accepted again where the host has no room for one more connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whether a workspace may publish ports: whoever made it said so. They lead through the agent, so nothing else would keep a
/// guest, or a model, from listening on this host.
pub(super) fn may_publish(record: &WorkspaceRecord) -> bool {
    record.network.policy == NetworkPolicy::EgressAndPublishedPorts
}

/// The published ports of a workspace.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    driver: Loop,
    crossings: CrossingNotes,
    /// By port of the host.
    table: Mutex<BTreeMap<u16, Published>>,
    /// One for each connection that the agent carries.
    slots: Arc<Semaphore>,
    /// Whether anything was carried since it was last asked.
    stirred: AtomicBool,
}

#[derive(Debug)]
struct Published {
    guest: u16,
    service: Option<String>,
    connections: Arc<AtomicU64>,
    accepting: AbortHandle,
}

/// The two listeners of a port; a host without IPv6 has only the first.
struct Listeners {
    v4: TcpListener,
    v6: Option<TcpListener>,
}

impl Ports {
    pub(super) fn new(driver: Loop, crossings: CrossingNotes) -> Self {
        let shared = Shared {
            driver,
            crossings,
            table: Mutex::default(),
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            stirred: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Publishes a port, for a service or for itself.
    ///
    /// # Errors
    /// Somebody listens there, or there are too many.
    pub(super) fn add(&self, ask: PortAsk, service: Option<&str>) -> Result<PortPair, Refusal> {
        if self.table().len() >= PORTS_MAX {
            let words = format!("the workspace publishes {PORTS_MAX} ports already");
            return Err(Refusal::new(RefusalKind::LimitReached, words));
        }
        let (host, listeners) = listen(ask.host)?;
        let connections = Arc::new(AtomicU64::new(0));
        let service = service.map(str::to_owned);
        let task = accept(Arc::clone(&self.shared), listeners, ask.guest, Arc::clone(&connections));
        let accepting = tokio::spawn(task).abort_handle();
        self.shared.note(host, ask.guest, service.as_deref(), true);
        self.table().insert(host, Published { guest: ask.guest, service, connections, accepting });
        Ok(PortPair { host, guest: ask.guest })
    }

    /// Publishes the ports of a service: all of them or none. Those that it has already stay as they are.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(super) fn add_all(&self, asks: &[PortAsk], service: &str) -> Result<Vec<PortPair>, Refusal> {
        let mut pairs = Vec::new();
        for ask in asks {
            let pair = match self.existing(*ask, service) {
                Some(pair) => Ok(pair),
                None => self.add(*ask, Some(service)),
            };
            match pair {
                Ok(pair) => pairs.push(pair),
                Err(refusal) => {
                    self.remove_of(service);
                    return Err(refusal);
                }
            }
        }
        Ok(pairs)
    }

    fn existing(&self, ask: PortAsk, service: &str) -> Option<PortPair> {
        let pair = PortPair { host: ask.host?, guest: ask.guest };
        self.is_of(pair, service).then_some(pair)
    }

    /// Whether a port is published for this service.
    pub(super) fn is_of(&self, pair: PortPair, service: &str) -> bool {
        let is_it =
            |published: &Published| published.guest == pair.guest && published.service.as_deref() == Some(service);
        self.table().get(&pair.host).is_some_and(is_it)
    }

    /// Ends one, and the connections through it.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn remove(&self, host: u16) -> Result<(), Refusal> {
        let Some(published) = self.table().remove(&host) else {
            return Err(Refusal::new(
                RefusalKind::NoPort,
                format!("port {host} of this host is not published by this workspace"),
            ));
        };
        self.shared.end(host, &published);
        Ok(())
    }

    /// Ends those of a service.
    pub(super) fn remove_of(&self, service: &str) {
        let gone: Vec<(u16, Published)> =
            self.table().extract_if(.., |_, published| published.service.as_deref() == Some(service)).collect();
        gone.iter().for_each(|(host, published)| self.shared.end(*host, published));
    }

    /// Ends all of them.
    pub(super) fn remove_all(&self) {
        let gone = std::mem::take(&mut *self.table());
        gone.iter().for_each(|(host, published)| self.shared.end(*host, published));
    }

    /// All of them.
    pub(super) fn list(&self) -> Vec<PublishedPort> {
        let published = |(host, published): (&u16, &Published)| PublishedPort {
            pair: PortPair { host: *host, guest: published.guest },
            service: published.service.clone(),
            connections: published.connections.load(Ordering::Relaxed),
        };
        self.table().iter().map(published).collect()
    }

    /// Whether anything went through any of them since this was last asked.
    pub(super) fn take_stirred(&self) -> bool {
        self.shared.stirred.swap(false, Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u16, Published>> {
        // Every critical section only moves values.
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn note(&self, host_port: u16, guest_port: u16, service: Option<&str>, open: bool) {
        let service = service.unwrap_or_default().to_owned();
        self.crossings.note(Crossing::PortPublish { host_port, guest_port, service, open });
    }

    fn end(&self, host: u16, published: &Published) {
        published.accepting.abort();
        self.note(host, published.guest, published.service.as_deref(), false);
    }
}

/// Listens at a port of both families, or finds one that is free in both.
fn listen(port: Option<u16>) -> Result<(u16, Listeners), Refusal> {
    let mut tries = if port.is_some() { 1 } else { FREE_PORT_TRIES };
    loop {
        tries -= 1;
        let bound = bind(Ipv4Addr::LOCALHOST.into(), port.unwrap_or(0)).and_then(|v4| {
            let port = v4.local_addr()?.port();
            Ok((port, Listeners { v4, v6: bind_v6(port)? }))
        });
        match bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            bound => return bound.map_err(|error| refusal(port.unwrap_or(0), &error)),
        }
    }
}

fn bind_v6(port: u16) -> io::Result<Option<TcpListener>> {
    match bind(Ipv6Addr::LOCALHOST.into(), port) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn bind(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((address, port))?;
    // The standard library's queue of 128 is shorter than what is carried at once; of a longer burst the kernel would
    // break some off.
    rustix::net::listen(&listener, ACCEPT_QUEUE_MAX)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn refusal(port: u16, error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            Refusal::new(RefusalKind::PortTaken(port), format!("port {port} of this host is in use"))
        }
        io::ErrorKind::PermissionDenied => {
            Refusal::new(RefusalKind::PortDenied(port), format!("this user may not listen at port {port} of this host"))
        }
        _ => Refusal::new(RefusalKind::Host, format!("cannot listen at port {port} of this host: {error}")),
    }
}

/// Accepts whoever comes, until it is aborted; the connections end with it.
async fn accept(shared: Arc<Shared>, listeners: Listeners, guest: u16, count: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&shared.slots).acquire_owned().await else { return };
        let client = loop {
            tokio::select! {
                client = listeners.accept() => break client,
                Some(_) = connections.join_next() => {}
            }
        };
        match client {
            Ok(client) => {
                let carried = Carried::new(Arc::clone(&count), slot);
                connections.spawn(carry(Arc::clone(&shared), client, guest, carried));
            }
            // Out of descriptors for a moment: whoever has one will give it back.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

impl Listeners {
    async fn accept(&self) -> io::Result<TcpStream> {
        let v6 = async {
            match &self.v6 {
                Some(v6) => v6.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.v4.accept() => accepted.map(|(client, _)| client),
            accepted = v6 => accepted.map(|(client, _)| client),
        }
    }
}

/// A connection that counts as long as it is carried.
struct Carried {
    count: Arc<AtomicU64>,
    _slot: OwnedSemaphorePermit,
}

impl Carried {
    fn new(count: Arc<AtomicU64>, slot: OwnedSemaphorePermit) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count, _slot: slot }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Carries one connection to its end.
async fn carry(shared: Arc<Shared>, mut client: TcpStream, guest: u16, _carried: Carried) {
    // A connection as such is a use; that of one which stays open is what it carries.
    let link = shared.driver.begin_use().await.map(|granted| granted.link().clone());
    let carried = async {
        let Ok(link) = link else { return Err(Broken) };
        let (from_guest, to_guest) = link.connect(guest).await.map_err(|_| Broken)?;
        // What the guest sends in one piece is passed on as one, however small.
        client.set_nodelay(true).map_err(|_| Broken)?;
        let (from_client, to_client) = client.split();
        let stir = || shared.stirred.store(true, Ordering::Relaxed);
        tokio::try_join!(upward(from_client, to_guest, stir), downward(from_guest, to_client, stir)).map(drop)
    };
    if carried.await.is_err() {
        // Closed in such a way that the other side sees that something broke.
        drop(client.set_zero_linger());
    }
}

/// One side broke off.
struct Broken;

async fn upward(from: ReadHalf<'_>, mut to: ConnectionWriter, stir: impl Fn()) -> Result<(), Broken> {
    loop {
        from.readable().await.map_err(|_| Broken)?;
        // Room for the bytes is made when there are some: most connections wait most of the time.
        let mut bytes = Vec::with_capacity(DATA_BYTES_MAX);
        match from.try_read_buf(&mut bytes) {
            Ok(0) => return to.close().await.map_err(|_| Broken),
            Ok(_) => to.write(&bytes).await.map_err(|_| Broken)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Broken),
        }
        stir();
    }
}

async fn downward(mut from: ConnectionReader, mut to: WriteHalf<'_>, stir: impl Fn()) -> Result<(), Broken> {
    loop {
        match from.next().await {
            ConnectionEvent::Bytes(bytes) => to.write_all(&bytes).await.map_err(|_| Broken)?,
            ConnectionEvent::Ended => return to.shutdown().await.map_err(|_| Broken),
            ConnectionEvent::Reset => return Err(Broken),
        }
        stir();
    }
}

#[cfg(test)]
mod tests {
    use super::{RefusalKind, listen};

    #[tokio::test]
    async fn a_port_is_taken_in_both_families_or_not_at_all() {
        let (port, first) = listen(None).unwrap();
        assert_eq!(first.v4.local_addr().unwrap().port(), port);
        assert_eq!(listen(Some(port)).err().unwrap().kind, RefusalKind::PortTaken(port));
        drop(first);
        let Ok(v6_only) = std::net::TcpListener::bind(("::1", port)) else { return };
        assert_eq!(listen(Some(port)).err().unwrap().kind, RefusalKind::PortTaken(port));
        drop(v6_only);
        assert_eq!(listen(Some(port)).unwrap().0, port);
    }
}
