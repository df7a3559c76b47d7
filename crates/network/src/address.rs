//! Addresses: those of the guest's own small network, and what kind of place any other one is.
//!
//! An address can be wrapped in another one (IPv4 in IPv6 in half a dozen ways). What is judged is what it means, so it is
//! unwrapped first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The gateway, which is pyro: it answers names, and stands for the host's loopback where a port of that is opened.
///
/// The network lies in the range that is set aside for documentation: no real host can be in it, so it hides none.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The guest.
pub const GUEST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Bits of the network's prefix.
pub const PREFIX_V4: u8 = 30;

/// The gateway in IPv6, in a unique local network of our own.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd70, 0x7972, 0x6f00, 0, 0, 0, 0, 1);

/// The guest in IPv6.
pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd70, 0x7972, 0x6f00, 0, 0, 0, 0, 2);

/// Bits of the network's prefix in IPv6.
pub const PREFIX_V6: u8 = 64;

/// The hardware address of the guest's interface. Each guest is alone on its network, so all may have the same.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x70, 0x79, 0x02];

/// The hardware address of the gateway.
pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x70, 0x79, 0x01];

/// The name by which a guest reaches ports of the host's loopback that were opened for it.
pub const HOST_NAME: &str = "host.pyro.internal";

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Somewhere in the public internet.
    Public,
    /// A private network.
    Private,
    /// The network between a carrier and its customers.
    Shared,
    /// The host itself.
    Loopback,
    /// The host's own link.
    LinkLocal,
    /// A service that tells a cloud machine its secrets.
    Metadata,
    /// Many hosts at once.
    Multicast,
    /// No host.
    Unspecified,
    /// Set aside for documentation and benchmarks. No real host is there, but some hosts' resolvers map names to such
    /// addresses, behind which a proxy of theirs is.
    Test,
    /// Set aside for something else.
    Reserved,
}

/// Services of clouds that answer anyone on their machine; some have public addresses.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// What kind of place `address` is. Wrapped addresses are unwrapped first.
#[must_use]
pub(crate) fn place(address: IpAddr) -> Place {
    let address = unwrapped(address);
    if METADATA.contains(&address) {
        return Place::Metadata;
    }
    match address {
        IpAddr::V4(address) => place_v4(address),
        IpAddr::V6(address) => place_v6(address),
    }
}

/// The address that `address` means: the IPv4 address in an IPv6 address that only carries one.
#[must_use]
pub(crate) fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // `::` and `::1` are addresses of IPv6's own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        // Compatible, mapped, and translated (SIIT).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        // NAT64, with the well-known prefix and with the local one.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 1, _, _, _, high, low] => v4(high, low),
        // 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo hides the client's address by turning its bits.
        [0x2001, 0, _, _, _, _, high, low] => v4(!high, !low),
        // ISATAP, in whatever network.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => v4(high, low),
        _ => address,
    }
}

fn place_v4(address: Ipv4Addr) -> Place {
    match address.octets() {
        // All of this network: without a host, or in the oldest of times.
        [0, ..] => Place::Unspecified,
        [127, ..] => Place::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Place::Private,
        [100, 64..=127, ..] => Place::Shared,
        [169, 254, ..] => Place::LinkLocal,
        [224..=239, ..] => Place::Multicast,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18 | 19, ..] => Place::Test,
        // Protocol assignments; the old 6to4 relays; the future and broadcast.
        [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => Place::Reserved,
        _ => Place::Public,
    }
}

fn place_v6(address: Ipv6Addr) -> Place {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Place::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Place::Loopback,
        [0xfc00..=0xfdff, ..] => Place::Private,
        [0xfe80..=0xfebf, ..] => Place::LinkLocal,
        [0xfec0..=0xfeff, ..] => Place::Private,
        [0xff00..=0xffff, ..] => Place::Multicast,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] | [0x2001, 2, 0, ..] => Place::Test,
        // Protocol assignments.
        [0x2001, 0..=0x1ff, ..] => Place::Reserved,
        [0x2000..=0x3fff, ..] => Place::Public,
        _ => Place::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::{Place, place, unwrapped};

    #[track_caller]
    fn check(address: &str, expected: Place) {
        assert_eq!(place(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn every_range_is_known() {
        check("1.1.1.1", Place::Public);
        check("2606:4700::1111", Place::Public);
        for address in ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1", "fec0::1"] {
            check(address, Place::Private);
        }
        check("172.32.0.1", Place::Public);
        check("100.64.0.1", Place::Shared);
        check("100.128.0.1", Place::Public);
        check("127.0.0.1", Place::Loopback);
        check("127.255.255.254", Place::Loopback);
        check("::1", Place::Loopback);
        check("169.254.1.1", Place::LinkLocal);
        check("fe80::1", Place::LinkLocal);
        for address in ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"] {
            check(address, Place::Metadata);
        }
        check("224.0.0.251", Place::Multicast);
        check("ff02::fb", Place::Multicast);
        check("0.0.0.0", Place::Unspecified);
        check("0.1.2.3", Place::Unspecified);
        check("::", Place::Unspecified);
        for address in ["192.0.2.1", "198.18.0.1", "203.0.113.9", "2001:db8::1", "2001:2::1"] {
            check(address, Place::Test);
        }
        for address in ["192.0.0.1", "240.0.0.1", "255.255.255.255", "2001:1::1", "4000::1"] {
            check(address, Place::Reserved);
        }
    }

    #[test]
    fn a_wrapped_address_is_what_it_wraps() {
        for address in [
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2001:0:1:2:3:4:80ff:fffe",
            "2606:4700::5efe:7f00:1",
        ] {
            check(address, Place::Loopback);
        }
        check("::ffff:169.254.169.254", Place::Metadata);
        check("64:ff9b::a9fe:a9fe", Place::Metadata);
        check("::ffff:1.1.1.1", Place::Public);
    }

    proptest! {
        /// However an IPv4 address is wrapped, it is the same place; and unwrapping is done after one step.
        #[test]
        fn wrapping_changes_nothing(bits in any::<u32>(), between in any::<u64>()) {
            let bare = Ipv4Addr::from(bits);
            let low = u128::from(bits);
            let between = u128::from(between);
            let wrapped = [
                0xffff_u128 << 32 | low,
                0xffff_u128 << 48 | low,
                0x64_ff9b_u128 << 96 | low,
                0x64_ff9b_0001_u128 << 80 | (between & 0xffff_ffff_ffff) << 32 | low,
                0x2002_u128 << 112 | low << 80 | between,
                0x2001_u128 << 112 | between << 32 | u128::from(!bits),
            ];
            for address in wrapped.map(|bits| IpAddr::V6(Ipv6Addr::from(bits))) {
                prop_assert_eq!(unwrapped(address), IpAddr::V4(bare), "{}", address);
                prop_assert_eq!(place(address), place(IpAddr::V4(bare)));
            }
        }
    }
}
