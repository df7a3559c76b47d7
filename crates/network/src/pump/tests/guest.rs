//! A guest that speaks frames: a TCP/IP stack of its own behind the stream that a hypervisor would have.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{
    Conversation, GATEWAY_V4, GATEWAY_V6, GUEST_MAC, GUEST_V4, GUEST_V6, MTU_BYTES, Network, Observer, PREFIX_V4,
    PREFIX_V6, Policy,
};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

/// How long anything here may take on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps what it hears.
#[derive(Default)]
pub(super) struct Heard {
    told: Mutex<Vec<Conversation>>,
    has_defect: AtomicBool,
}

impl Heard {
    /// From now on the first that it hears finds a defect.
    pub(super) fn break_down(&self) {
        self.has_defect.store(true, Ordering::SeqCst);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.told.lock().unwrap().iter().map(ToString::to_string).collect()
    }

    pub(super) fn all(&self) -> Vec<Conversation> {
        self.told.lock().unwrap().clone()
    }
}

impl Observer for Heard {
    fn conversation(&self, conversation: Conversation) {
        assert!(!self.has_defect.swap(false, Ordering::SeqCst), "a defect for this test");
        self.told.lock().unwrap().push(conversation);
    }
}

/// The guest, and the network it is on.
pub(super) struct Guest {
    pub(super) network: Network,
    pub(super) heard: Arc<Heard>,
    pub(super) sockets: SocketSet<'static>,
    interface: Interface,
    link: Link,
    born: Instant,
    next_port: u16,
}

struct Link {
    stream: UnixStream,
    read: Vec<u8>,
    frames: VecDeque<Vec<u8>>,
    written: Vec<u8>,
    may_end: bool,
    has_ended: bool,
}

impl Guest {
    pub(super) fn new(policy: Policy) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let heard = Arc::new(Heard::default());
        let observer: Arc<dyn Observer> = heard.clone();
        let network = Network::start(OwnedFd::from(theirs), policy, observer).unwrap();
        let mut link = Link {
            stream: ours,
            read: Vec::new(),
            frames: VecDeque::new(),
            written: Vec::new(),
            may_end: false,
            has_ended: false,
        };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(GUEST_MAC)));
        let mut interface = Interface::new(config, &mut link, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(GUEST_V4.into(), PREFIX_V4)).unwrap();
            addresses.push(IpCidr::new(GUEST_V6.into(), PREFIX_V6)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(GATEWAY_V4).unwrap();
        interface.routes_mut().add_default_ipv6_route(GATEWAY_V6).unwrap();
        let sockets = SocketSet::new(Vec::new());
        Self { network, heard, sockets, interface, link, born: Instant::now(), next_port: 20_000 }
    }

    /// One turn of the guest.
    pub(super) fn turn(&mut self) {
        self.link.pump();
        let now = smoltcp::time::Instant::from_micros(i64::try_from(self.born.elapsed().as_micros()).unwrap());
        self.interface.poll(now, &mut self.link, &mut self.sockets);
        self.link.pump();
        std::thread::yield_now();
    }

    /// Turns until something is so.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; heard {:?}", self.heard.lines());
            self.turn();
        }
    }

    /// Turns until the network is gone.
    #[track_caller]
    pub(super) fn until_it_ends(&mut self) {
        self.link.may_end = true;
        self.until("the network ends", |guest| guest.link.has_ended);
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, to: IpAddr, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 256 << 10]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        self.next_port += 1;
        socket.connect(self.interface.context(), (to, port), self.next_port).unwrap();
        self.sockets.add(socket)
    }

    pub(super) fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Whether a connection stands: false when it is refused.
    #[track_caller]
    pub(super) fn stands(&mut self, handle: SocketHandle) -> bool {
        self.until("connect", |guest| {
            let state = guest.tcp(handle).state();
            state == tcp::State::Established || state == tcp::State::Closed
        });
        self.tcp(handle).state() == tcp::State::Established
    }

    /// Sends a datagram and waits for the answer.
    #[track_caller]
    pub(super) fn ask(&mut self, to: IpAddr, port: u16, payload: &[u8]) -> Vec<u8> {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 128 << 10]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        self.next_port += 1;
        socket.bind(self.next_port).unwrap();
        socket.send_slice(payload, smoltcp::wire::IpEndpoint::new(to.into(), port)).unwrap();
        let handle = self.sockets.add(socket);
        let mut answer = None;
        self.until("an answer", |guest| {
            answer = guest.sockets.get_mut::<udp::Socket<'_>>(handle).recv().ok().map(|(bytes, _)| bytes.to_vec());
            answer.is_some()
        });
        self.sockets.remove(handle);
        answer.unwrap()
    }

    /// The next frame that comes, before the guest's stack sees it.
    #[track_caller]
    pub(super) fn next_frame(&mut self) -> Vec<u8> {
        let began = Instant::now();
        loop {
            self.link.pump();
            if let Some(frame) = self.link.frames.pop_front() {
                return frame;
            }
            assert!(began.elapsed() < PATIENCE, "no frame within {PATIENCE:?}");
            std::thread::yield_now();
        }
    }

    /// Sends a frame as it is.
    pub(super) fn send_frame(&mut self, frame: &[u8]) {
        self.link.push(frame);
        self.link.pump();
    }
}

impl Link {
    fn push(&mut self, frame: &[u8]) {
        self.written.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        self.written.extend(frame);
    }

    fn end(&mut self, why: &str) {
        assert!(self.may_end, "the network went away: {why}");
        self.has_ended = true;
    }

    fn pump(&mut self) {
        while !self.written.is_empty() {
            match self.stream.write(&self.written) {
                Ok(count) => drop(self.written.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return self.end(&error.to_string()),
            }
        }
        let mut room = vec![0; 256 << 10];
        match self.stream.read(&mut room) {
            Ok(0) => return self.end("no more frames"),
            Ok(count) => self.read.extend(&room[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return self.end(&error.to_string()),
        }
        while let Some(length) = self.read.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize) {
            if self.read.len() < 4 + length {
                break;
            }
            self.frames.push_back(self.read[4..4 + length].to_vec());
            self.read.drain(..4 + length);
        }
    }
}

pub(super) struct Frame(Vec<u8>);

pub(super) struct Room<'a>(&'a mut Link);

impl Device for Link {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _now: smoltcp::time::Instant) -> Option<(Frame, Room<'_>)> {
        let frame = self.frames.pop_front()?;
        Some((Frame(frame), Room(self)))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<Room<'_>> {
        // What waits to be written is bounded, as a real queue is.
        (self.written.len() < 1 << 20).then_some(Room(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU_BYTES + 14;
        capabilities
    }
}

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = vec![0; len];
        let result = fill(&mut frame);
        self.0.push(&frame);
        result
    }
}
