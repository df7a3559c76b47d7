//! The guest's frames, taken apart, and the few packets that are put together by hand: answers to ARP and neighbour
//! questions, echoes, refusals, datagrams. TCP beyond its first packet is the stack's.
//!
//! A frame is passed on only when everything about it holds together, so what is behind this sees well-formed packets from the
//! guest's one address only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4DstUnreachable,
    Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket,
    UdpRepr,
};

use crate::address::{GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, GUEST_MAC, GUEST_V4, GUEST_V6};
use crate::limits::FRAME_BYTES_MAX;

/// Bytes of an Ethernet header.
pub(crate) const HEADER_BYTES: usize = 14;

/// How many bytes of a refused packet its refusal carries back.
const RETURNED_BYTES_MAX: usize = 512;

/// Bytes of the longest header of IPv4.
const LONGEST_HEADER_BYTES: usize = 60;

/// Bytes of the header of IPv6.
const V6_HEADER_BYTES: usize = 40;

const HOPS: u8 = 64;

/// What a frame of the guest says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// A TCP packet.
    Tcp(TcpHead, &'a [u8]),
    /// A datagram.
    Udp { from: SocketAddr, to: SocketAddr, payload: &'a [u8], packet: &'a [u8] },
    /// It is answered with this frame, and nothing more comes of it.
    Answered(Vec<u8>),
    /// Another kind of packet to somebody: refused.
    Other { packet: &'a [u8] },
    /// It is passed over: nothing for us, and nothing wrong with it.
    Passed,
    /// It makes no sense.
    Malformed,
}

/// What matters of a TCP packet before the stack sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpHead {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) rst: bool,
    sequence: TcpSeqNumber,
    acknowledged: TcpSeqNumber,
    /// How much of the sequence it takes.
    length: usize,
}

/// Takes a frame apart.
pub(crate) fn read(frame: &[u8]) -> Said<'_> {
    if frame.len() > FRAME_BYTES_MAX {
        return Said::Malformed;
    }
    let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return Said::Malformed };
    let payload = &frame[HEADER_BYTES..];
    match ethernet.ethertype() {
        EthernetProtocol::Arp => read_arp(payload),
        EthernetProtocol::Ipv4 => read_v4(payload),
        EthernetProtocol::Ipv6 => read_v6(payload),
        EthernetProtocol::Unknown(_) => Said::Passed,
    }
}

/// Takes a packet apart that was in a frame before.
pub(crate) fn read_packet(packet: &[u8]) -> Said<'_> {
    if packet.first().is_some_and(|first| first >> 4 == 6) { read_v6(packet) } else { read_v4(packet) }
}

fn read_arp(payload: &[u8]) -> Said<'_> {
    let Ok(arp) = ArpPacket::new_checked(payload) else { return Said::Malformed };
    let Ok(ArpRepr::EthernetIpv4 {
        operation, source_hardware_addr, source_protocol_addr, target_protocol_addr, ..
    }) = ArpRepr::parse(&arp)
    else {
        return Said::Malformed;
    };
    // A machine that looks whether its address is free must not hear that it is not.
    if operation != ArpOperation::Request || target_protocol_addr != GATEWAY_V4 {
        return Said::Passed;
    }
    let answer = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(GATEWAY_MAC),
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let mut frame = ethernet(EthernetProtocol::Arp, answer.buffer_len());
    answer.emit(&mut ArpPacket::new_unchecked(&mut frame[HEADER_BYTES..]));
    Said::Answered(frame)
}

fn read_v4(payload: &[u8]) -> Said<'_> {
    let Ok(ip) = Ipv4Packet::new_checked(payload) else { return Said::Malformed };
    let Ok(head) = Ipv4Repr::parse(&ip, &trusting()) else { return Said::Malformed };
    // Pieces are not put together: the guest has no need of them on a link of this size.
    if ip.more_frags() || ip.frag_offset() != 0 || head.src_addr != GUEST_V4 {
        return Said::Malformed;
    }
    let packet = &payload[..usize::from(ip.total_len())];
    let inner = &packet[usize::from(ip.header_len())..];
    let to = head.dst_addr;
    match head.next_header {
        IpProtocol::Tcp => read_tcp(packet, inner, GUEST_V4.into(), to.into()),
        IpProtocol::Udp => read_udp(packet, inner, GUEST_V4.into(), to.into()),
        IpProtocol::Icmp if to == GATEWAY_V4 => read_echo_v4(inner),
        _ => Said::Other { packet },
    }
}

fn read_v6(payload: &[u8]) -> Said<'_> {
    let Ok(ip) = Ipv6Packet::new_checked(payload) else { return Said::Malformed };
    let packet = &payload[..ip.total_len()];
    let inner = &packet[ip.header_len()..];
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    if ip.next_header() == IpProtocol::Icmpv6 {
        return read_icmp_v6(inner, from, to, packet);
    }
    // What an interface says to its link by itself.
    if to.is_multicast() || from.is_unicast_link_local() {
        return Said::Passed;
    }
    if from != GUEST_V6 {
        return Said::Malformed;
    }
    match ip.next_header() {
        IpProtocol::Tcp => read_tcp(packet, inner, from.into(), to.into()),
        IpProtocol::Udp => read_udp(packet, inner, from.into(), to.into()),
        _ => Said::Other { packet },
    }
}

fn read_tcp<'a>(packet: &'a [u8], inner: &'a [u8], from: IpAddr, to: IpAddr) -> Said<'a> {
    let Ok(tcp) = TcpPacket::new_checked(inner) else { return Said::Malformed };
    // The stack reads it once more; what it would refuse must not get so far that a connection is made for it.
    let Ok(head) = TcpRepr::parse(&tcp, &from.into(), &to.into(), &trusting()) else { return Said::Malformed };
    if head.src_port == 0 || head.dst_port == 0 {
        return Said::Malformed;
    }
    let head = TcpHead {
        from: SocketAddr::new(from, head.src_port),
        to: SocketAddr::new(to, head.dst_port),
        syn: tcp.syn(),
        ack: tcp.ack(),
        rst: tcp.rst(),
        sequence: head.seq_number,
        acknowledged: head.ack_number.unwrap_or_default(),
        length: head.segment_len(),
    };
    Said::Tcp(head, packet)
}

fn read_udp<'a>(packet: &'a [u8], inner: &'a [u8], from: IpAddr, to: IpAddr) -> Said<'a> {
    let Ok(udp) = UdpPacket::new_checked(inner) else { return Said::Malformed };
    if udp.src_port() == 0 || udp.dst_port() == 0 {
        return Said::Malformed;
    }
    let payload = &inner[8..usize::from(udp.len())];
    Said::Udp { from: SocketAddr::new(from, udp.src_port()), to: SocketAddr::new(to, udp.dst_port()), payload, packet }
}

fn read_echo_v4(inner: &[u8]) -> Said<'_> {
    let Ok(icmp) = Icmpv4Packet::new_checked(inner) else { return Said::Malformed };
    match Icmpv4Repr::parse(&icmp, &trusting()) {
        Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) => {
            Said::Answered(icmp_v4(GATEWAY_V4, &Icmpv4Repr::EchoReply { ident, seq_no, data }))
        }
        _ => Said::Passed,
    }
}

fn read_icmp_v6<'a>(inner: &'a [u8], from: Ipv6Addr, to: Ipv6Addr, packet: &'a [u8]) -> Said<'a> {
    let Ok(icmp) = Icmpv6Packet::new_checked(inner) else { return Said::Malformed };
    match Icmpv6Repr::parse(&from, &to, &icmp, &trusting()) {
        Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. }))
            if target_addr == GATEWAY_V6 && from == GUEST_V6 =>
        {
            let answer = NdiscRepr::NeighborAdvert {
                flags: NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
                target_addr,
                lladdr: Some(EthernetAddress(GATEWAY_MAC).into()),
            };
            Said::Answered(icmp_v6(GATEWAY_V6, 255, &Icmpv6Repr::Ndisc(answer)))
        }
        Ok(Icmpv6Repr::EchoRequest { ident, seq_no, data }) if to == GATEWAY_V6 && from == GUEST_V6 => {
            Said::Answered(icmp_v6(GATEWAY_V6, HOPS, &Icmpv6Repr::EchoReply { ident, seq_no, data }))
        }
        Ok(Icmpv6Repr::EchoRequest { .. }) if from == GUEST_V6 && !to.is_multicast() => Said::Other { packet },
        _ => Said::Passed,
    }
}

/// The answer that ends the connection a TCP packet wants or belongs to; none to a packet that ends one itself.
pub(crate) fn reset(head: &TcpHead) -> Option<Vec<u8>> {
    if head.rst {
        return None;
    }
    let (seq_number, ack_number) =
        if head.ack { (head.acknowledged, None) } else { (TcpSeqNumber(0), Some(head.sequence + head.length)) };
    let tcp = TcpRepr {
        src_port: head.to.port(),
        dst_port: head.from.port(),
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    Some(ip_frame(head.to.ip(), IpProtocol::Tcp, tcp.buffer_len(), |bytes, from, to| {
        tcp.emit(&mut TcpPacket::new_unchecked(bytes), &from.into(), &to.into(), &ChecksumCapabilities::default());
    }))
}

/// Why a packet does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// It is not allowed to.
    Prohibited,
    /// There is no way to the host.
    Host,
    /// Nobody listens there.
    Port,
}

/// As much of a packet as a message about it carries back.
pub(crate) fn head(packet: &[u8]) -> Vec<u8> {
    packet[..packet.len().min(LONGEST_HEADER_BYTES + RETURNED_BYTES_MAX)].to_vec()
}

/// The answer that says why a packet did not arrive, of which this is at least the head.
pub(crate) fn unreachable(packet: &[u8], why: Unreachable) -> Option<Vec<u8>> {
    if packet.first()? >> 4 == 4 {
        let ip = Ipv4Packet::new_unchecked(packet);
        let header_bytes = usize::from(ip.header_len());
        let data = packet.get(header_bytes..packet.len().min(header_bytes + RETURNED_BYTES_MAX))?;
        let header = Ipv4Repr {
            src_addr: ip.src_addr(),
            dst_addr: ip.dst_addr(),
            next_header: ip.next_header(),
            payload_len: usize::from(ip.total_len()).checked_sub(header_bytes)?,
            hop_limit: ip.hop_limit(),
        };
        let reason = match why {
            Unreachable::Prohibited => Icmpv4DstUnreachable::CommProhibited,
            Unreachable::Host => Icmpv4DstUnreachable::HostUnreachable,
            Unreachable::Port => Icmpv4DstUnreachable::PortUnreachable,
        };
        // A host that is not there says nothing: where a refusal comes from is the gateway.
        let from = if why == Unreachable::Port { header.dst_addr } else { GATEWAY_V4 };
        return Some(icmp_v4(from, &Icmpv4Repr::DstUnreachable { reason, header, data }));
    }
    let data = packet.get(V6_HEADER_BYTES..packet.len().min(V6_HEADER_BYTES + RETURNED_BYTES_MAX))?;
    let ip = Ipv6Packet::new_unchecked(packet);
    let header = Ipv6Repr {
        src_addr: ip.src_addr(),
        dst_addr: ip.dst_addr(),
        next_header: ip.next_header(),
        payload_len: usize::from(ip.payload_len()),
        hop_limit: ip.hop_limit(),
    };
    let reason = match why {
        Unreachable::Prohibited => Icmpv6DstUnreachable::AdminProhibit,
        Unreachable::Host => Icmpv6DstUnreachable::AddrUnreachable,
        Unreachable::Port => Icmpv6DstUnreachable::PortUnreachable,
    };
    let from = if why == Unreachable::Port { header.dst_addr } else { GATEWAY_V6 };
    Some(icmp_v6(from, HOPS, &Icmpv6Repr::DstUnreachable { reason, header, data }))
}

/// A datagram to the guest; none if it is too long for one packet.
pub(crate) fn datagram(from: SocketAddr, to_port: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let udp = UdpRepr { src_port: from.port(), dst_port: to_port };
    let length = udp.header_len() + payload.len();
    if HEADER_BYTES + 40 + length > FRAME_BYTES_MAX {
        return None;
    }
    Some(ip_frame(from.ip(), IpProtocol::Udp, length, |bytes, from, to| {
        let put = |room: &mut [u8]| room.copy_from_slice(payload);
        let packet = &mut UdpPacket::new_unchecked(bytes);
        udp.emit(packet, &from.into(), &to.into(), payload.len(), put, &ChecksumCapabilities::default());
    }))
}

/// A packet of the stack's, framed.
pub(crate) fn framed(packet_bytes: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = ethernet(EthernetProtocol::Ipv4, packet_bytes);
    fill(&mut frame[HEADER_BYTES..]);
    if frame.get(HEADER_BYTES).is_some_and(|first| first >> 4 == 6) {
        EthernetFrame::new_unchecked(&mut frame[..]).set_ethertype(EthernetProtocol::Ipv6);
    }
    frame
}

fn icmp_v4(from: Ipv4Addr, icmp: &Icmpv4Repr<'_>) -> Vec<u8> {
    ip_frame(from.into(), IpProtocol::Icmp, icmp.buffer_len(), |bytes, _, _| {
        icmp.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
    })
}

fn icmp_v6(from: Ipv6Addr, hop_limit: u8, icmp: &Icmpv6Repr<'_>) -> Vec<u8> {
    let mut frame = ip_frame(from.into(), IpProtocol::Icmpv6, icmp.buffer_len(), |bytes, _, _| {
        icmp.emit(&from, &GUEST_V6, &mut Icmpv6Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
    });
    Ipv6Packet::new_unchecked(&mut frame[HEADER_BYTES..]).set_hop_limit(hop_limit);
    frame
}

/// A packet from `from` to the guest; `fill` is given the place of its content and both addresses.
fn ip_frame(
    from: IpAddr,
    next_header: IpProtocol,
    payload_len: usize,
    fill: impl FnOnce(&mut [u8], IpAddr, IpAddr),
) -> Vec<u8> {
    match from {
        IpAddr::V4(src_addr) => {
            let ip = Ipv4Repr { src_addr, dst_addr: GUEST_V4, next_header, payload_len, hop_limit: HOPS };
            let mut frame = ethernet(EthernetProtocol::Ipv4, ip.buffer_len() + payload_len);
            let mut packet = Ipv4Packet::new_unchecked(&mut frame[HEADER_BYTES..]);
            ip.emit(&mut packet, &ChecksumCapabilities::default());
            fill(packet.payload_mut(), from, GUEST_V4.into());
            frame
        }
        IpAddr::V6(src_addr) => {
            let ip = Ipv6Repr { src_addr, dst_addr: GUEST_V6, next_header, payload_len, hop_limit: HOPS };
            let mut frame = ethernet(EthernetProtocol::Ipv6, ip.buffer_len() + payload_len);
            let mut packet = Ipv6Packet::new_unchecked(&mut frame[HEADER_BYTES..]);
            ip.emit(&mut packet);
            fill(packet.payload_mut(), from, GUEST_V6.into());
            frame
        }
    }
}

/// A frame to the guest with room for so many bytes.
fn ethernet(kind: EthernetProtocol, payload_bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES + payload_bytes];
    let mut head = EthernetFrame::new_unchecked(&mut frame[..]);
    head.set_src_addr(EthernetAddress(GATEWAY_MAC));
    head.set_dst_addr(EthernetAddress(GUEST_MAC));
    head.set_ethertype(kind);
    frame
}

/// Frames cross one local socket, which loses and changes nothing: only the guest insists on checksums.
pub(crate) fn trusting() -> ChecksumCapabilities {
    use smoltcp::phy::Checksum;

    let mut checksums = ChecksumCapabilities::default();
    checksums.ipv4 = Checksum::Tx;
    checksums.tcp = Checksum::Tx;
    checksums.udp = Checksum::Tx;
    checksums.icmpv4 = Checksum::Tx;
    checksums.icmpv6 = Checksum::Tx;
    checksums
}
