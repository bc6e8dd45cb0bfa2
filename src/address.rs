//! Addresses of the network: the one form that a range has.
//!
//! Pure. A caller's address is compared as IPv4 wherever it is that, so a range has to be written that way too.

use ipnet::{IpNet, Ipv4Net};

/// IPv4 that is written as IPv6 (::ffff:10.0.0.0/104) as IPv4 (10.0.0.0/8). The reason, if it is wider than all of IPv4.
pub fn folded(range: IpNet) -> Result<IpNet, &'static str> {
    let IpNet::V6(mapped) = range else { return Ok(range) };
    let Some(address) = mapped.addr().to_ipv4_mapped() else { return Ok(range) };
    let prefix = mapped.prefix_len().checked_sub(96);
    let narrow = prefix.and_then(|prefix| Ipv4Net::new(address, prefix).ok());
    narrow.map(IpNet::V4).ok_or("is wider than all of IPv4, which is written as 0.0.0.0/0")
}

#[cfg(test)]
mod tests {
    use super::*;

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
