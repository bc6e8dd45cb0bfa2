//! Addresses of the network: the one form that a range has, and which addresses are on the public internet.
//!
//! Pure. A caller's address is compared as IPv4 wherever it is that, so a range has to be written that way too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// IPv4 that is written as IPv6 (::ffff:10.0.0.0/104) as IPv4 (10.0.0.0/8). The reason, if it is wider than all of IPv4.
pub fn folded(range: IpNet) -> Result<IpNet, &'static str> {
    let IpNet::V6(mapped) = range else { return Ok(range) };
    let Some(address) = mapped.addr().to_ipv4_mapped() else { return Ok(range) };
    let prefix = mapped.prefix_len().checked_sub(96);
    let narrow = prefix.and_then(|prefix| Ipv4Net::new(address, prefix).ok());
    narrow.map(IpNet::V4).ok_or("is wider than all of IPv4, which is written as 0.0.0.0/0")
}

/// Whether an address is somebody's on the public internet: not the machine's own, and of no private, link-local or
/// otherwise special network (the special-purpose registries of IANA, RFC 6890). What a stranger names is called there
/// alone.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation();
    let is_unassigned = match address.octets() {
        [0 | 240..=255, ..] | [192, 0, 0, _] | [198, 18..=19, ..] => true,
        // Shared by carriers and their customers (RFC 6598).
        [100, second, ..] => (64..128).contains(&second),
        _ => false,
    };
    !special && !is_unassigned
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, .., high, low] = address.segments();
    let inner = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match (first, second) {
        // Global unicast is 2000::/3; translators and tunnels lead to the IPv4 that they carry.
        (0x64, 0xff9b) => third == 0 && is_public_v4(inner(high, low)),
        (0x2002, _) => is_public_v4(inner(second, third)),
        (0x2001, 0x0..=0x1ff | 0xdb8) | (0x3fff, 0x0..=0xfff) => false,
        _ => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_addresses_of_the_house_are_not_public() {
        for public in [
            "1.1.1.1",
            "93.184.216.34",
            "100.63.255.255",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "3fff::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    /// D8: an address of IPv4 has one form, however a range of it is written.
    #[test]
    fn d8_ipv4_that_is_written_as_ipv6_is_folded() {
        let range = |text: &str| text.parse::<IpNet>().unwrap();
        for (written, meant) in [
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:192.0.2.1/128", "192.0.2.1/32"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::1/128", "::1/128"),
        ] {
            assert_eq!(folded(range(written)), Ok(range(meant)), "{written}");
        }
        assert!(folded(range("::ffff:0.0.0.0/95")).is_err());
    }
}
