//! The machine's interfaces: the loopback, and the one to the outside in a machine that has one.
//!
//! They are set up over the kernel's own protocol for that (rtnetlink), which needs no tool of the guest.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use pyro_wire::lifecycle::Network;
use pyro_wire::{Fault, FaultKind};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::modules;

/// Where the kernel lists its interfaces.
const INTERFACES: &str = "/sys/class/net";

const LOOPBACK: &str = "lo";

/// Driver of the interface to the outside.
const DRIVER: &str = "virtio_net";

/// How long the interface may take to appear after its driver.
const APPEARANCE_LIMIT: Duration = Duration::from_secs(10);

/// Most addresses and gateways that a machine is given.
const ADDRESSES_MAX: usize = 8;

/// Kinds of messages.
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const ERROR: u16 = 2;

/// Flags of a message: a request, to be acknowledged, that makes something.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;

/// Attributes of links, addresses and routes.
const LINK_MTU: u16 = 4;
const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;

const HEADER_BYTES: usize = 16;

/// Brings the loopback interface up; the kernel gives it its addresses.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    Kernel::open()?.link(index(LOOPBACK)?, None)
}

/// Loads the driver of the interface to the outside from the modules' disk, and waits until the interface is there.
pub(crate) fn prepare(modules: Option<&Path>) -> Result<(), Fault> {
    if let Some(modules) = modules {
        modules::load(modules, DRIVER)?;
    }
    let deadline = Instant::now() + APPEARANCE_LIMIT;
    while interface().is_none() {
        if Instant::now() >= deadline {
            let message = format!("no network interface appeared within {} s", APPEARANCE_LIMIT.as_secs());
            return Err(Fault::new(FaultKind::DeviceMissing, message));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Sets the interface to the outside up.
pub(crate) fn set_up(network: &Network) -> Result<(), Fault> {
    if network.addresses.len() > ADDRESSES_MAX || network.gateways.len() > ADDRESSES_MAX {
        return Err(Fault::new(FaultKind::InvalidArgument, "a machine has a few addresses and gateways at most"));
    }
    let name = interface()
        .ok_or_else(|| Fault::new(FaultKind::DeviceMissing, "the machine has no network interface to set up"))?;
    quieten(&name);
    let set_up = || -> Result<(), Errno> {
        let mut kernel = Kernel::open()?;
        let index = index(&name)?;
        kernel.link(index, Some(network.mtu_bytes))?;
        for (address, prefix) in &network.addresses {
            passed_over(address, kernel.address(index, *address, *prefix))?;
        }
        for gateway in &network.gateways {
            passed_over(gateway, kernel.default_route(index, *gateway))?;
        }
        Ok(())
    };
    set_up().map_err(|error| Fault::new(FaultKind::Io, format!("cannot set up the network interface {name}: {error}")))
}

/// A kernel without IPv6 is none the worse for it.
fn passed_over(address: &IpAddr, result: Result<(), Errno>) -> Result<(), Errno> {
    if address.is_ipv6() && result.is_err() { Ok(()) } else { result }
}

/// Has the interface ask nobody for addresses: there is nobody to answer.
fn quieten(name: &str) {
    for (file, value) in [("accept_ra", "0"), ("addr_gen_mode", "1"), ("accept_dad", "0")] {
        // A kernel without IPv6 has none of these.
        drop(std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{file}"), value));
    }
}

/// The interface to the outside: the one that is backed by a device.
fn interface() -> Option<String> {
    let entries = std::fs::read_dir(INTERFACES).ok()?.filter_map(Result::ok);
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names.into_iter().next()
}

fn index(name: &str) -> Result<i32, Errno> {
    let text = std::fs::read_to_string(Path::new(INTERFACES).join(name).join("ifindex")).map_err(|_| Errno::NODEV)?;
    text.trim().parse().map_err(|_| Errno::NODEV)
}

/// A socket to the kernel.
struct Kernel {
    socket: OwnedFd,
    sequence: u32,
}

impl Kernel {
    fn open() -> Result<Self, Errno> {
        // The protocol of this family that is about routes has the number 0, which is what none means.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Brings an interface up, with packets of this size.
    fn link(&mut self, index: i32, mtu_bytes: Option<u32>) -> Result<(), Errno> {
        const UP: u32 = 1;
        // Family and kind are left open; then the interface, its flags, and which of them to change.
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(UP.to_ne_bytes());
        body.extend(UP.to_ne_bytes());
        if let Some(mtu) = mtu_bytes {
            attribute(&mut body, LINK_MTU, &mtu.to_ne_bytes());
        }
        self.request(NEW_LINK, 0, &body)
    }

    fn address(&mut self, index: i32, address: IpAddr, prefix: u8) -> Result<(), Errno> {
        // An address that is used at once, without looking whether somebody else has it.
        const NO_DETECTION: u8 = 2;
        let flags = if address.is_ipv6() { NO_DETECTION } else { 0 };
        let mut body = vec![family(address), prefix, flags, 0];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, ADDRESS_LOCAL, &bytes(address));
        attribute(&mut body, ADDRESS_ADDRESS, &bytes(address));
        self.request(NEW_ADDRESS, CREATE, &body)
    }

    fn default_route(&mut self, index: i32, gateway: IpAddr) -> Result<(), Errno> {
        const MAIN_TABLE: u8 = 254;
        const SET_AT_BOOT: u8 = 3;
        const UNICAST: u8 = 1;
        let mut body = vec![family(gateway), 0, 0, 0, MAIN_TABLE, SET_AT_BOOT, 0, UNICAST, 0, 0, 0, 0];
        attribute(&mut body, ROUTE_GATEWAY, &bytes(gateway));
        attribute(&mut body, ROUTE_INTERFACE, &index.to_ne_bytes());
        self.request(NEW_ROUTE, CREATE, &body)
    }

    /// Asks for something, and waits for the kernel's word on it.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
        self.sequence += 1;
        let message = message(kind, flags | REQUEST | ACKNOWLEDGE, self.sequence, body);
        send(&self.socket, &message, SendFlags::empty())?;
        let mut answer = [0; 4096];
        loop {
            let (count, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            if let Some(result) = outcome(&answer[..count], self.sequence) {
                return result;
            }
        }
    }
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// What a message says of the request of this number; none if it speaks of something else.
fn outcome(message: &[u8], sequence: u32) -> Option<Result<(), Errno>> {
    let word = |at: usize| message.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    if kind != ERROR || word(8)? != sequence {
        return None;
    }
    let number = word(HEADER_BYTES)?.cast_signed();
    Some(if number == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(number.wrapping_neg())) })
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    // The next one begins at a multiple of four.
    body.resize(body.len().next_multiple_of(4), 0);
}

fn family(address: IpAddr) -> u8 {
    const INET: u8 = 2;
    const INET6: u8 = 10;
    if address.is_ipv4() { INET } else { INET6 }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::{attribute, message, outcome};

    #[test]
    fn messages_are_as_long_as_they_say() {
        let mut body = vec![0; 8];
        attribute(&mut body, 4, &[1, 2, 3]);
        assert_eq!(body[8..], [7, 0, 4, 0, 1, 2, 3, 0]);
        let message = message(16, 5, 7, &body);
        assert_eq!((message.len(), &message[..8]), (32, &[32, 0, 0, 0, 16, 0, 5, 0][..]));
    }

    #[test]
    fn the_kernels_word_is_understood() {
        let word = |number: i32| message(2, 0, 3, &number.to_ne_bytes());
        assert_eq!(outcome(&word(0), 3), Some(Ok(())));
        assert_eq!(outcome(&word(-17), 3), Some(Err(Errno::EXIST)));
        assert_eq!(outcome(&word(0), 4), None);
        assert_eq!(outcome(&word(0)[..10], 3), None);
        assert_eq!(outcome(&message(16, 0, 3, &[0; 4]), 3), None);
    }
}
