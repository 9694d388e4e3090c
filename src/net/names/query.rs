//! What a guest asks for: an address that is written out, or a name.

use std::net::{IpAddr, Ipv6Addr};

use crate::net::{Error, Result};

/// Longest name, in bytes (RFC 1035, section 2.3.4), and longest label.
pub(super) const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Longest name that is looked at, in bytes: IDNA makes at least one byte of a character that it keeps,
/// and UTF-8 has up to four for it. A guest may hand over megabytes, and would hold up the others.
const MAX_UNICODE_NAME: usize = 4 * MAX_NAME;

/// What a name turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// An address, with or without brackets.
    Address(IpAddr),
    /// A name.
    Name {
        /// In lower case, ASCII, without the dot at the end.
        name: String,
        /// Whether there was a dot at the end: no search domain is for it (resolv.conf(5)).
        absolute: bool,
    },
}

/// # Errors
/// [`Error::InvalidArgument`] for what is neither a name nor an address.
pub(super) fn parse(name: &str) -> Result<Query> {
    if name.len() > MAX_UNICODE_NAME {
        return Err(Error::InvalidArgument);
    }
    let unbracketed = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    if let Some(inner) = unbracketed {
        let ip: Ipv6Addr = inner.parse().map_err(|_| Error::InvalidArgument)?;
        return Ok(Query::Address(IpAddr::V6(ip).to_canonical()));
    }
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(Query::Address(ip.to_canonical()));
    }
    let ascii = idna::domain_to_ascii(name).map_err(|_| Error::InvalidArgument)?;
    let (ascii, absolute) = match ascii.strip_suffix('.') {
        Some(relative) => (relative, true),
        None => (ascii.as_str(), false),
    };
    // A last label of digits only would be an address, and is none (RFC 3696, section 2).
    let last_is_number = ascii.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if last_is_number || !is_name(ascii) {
        return Err(Error::InvalidArgument);
    }
    Ok(Query::Name { name: ascii.to_owned(), absolute })
}

/// Whether a text without a dot at its end can be asked for.
pub(super) fn is_name(text: &str) -> bool {
    let label_is_valid = |label: &str| {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(valid)
    };
    text.len() <= MAX_NAME && text.split('.').all(label_is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, absolute: bool) -> Result<Query> {
        Ok(Query::Name { name: text.to_owned(), absolute })
    }

    #[test]
    fn names_and_addresses() {
        let address = |text: &str| Ok(Query::Address(text.parse().expect(text)));
        for (text, expected) in [
            ("example.com", name("example.com", false)),
            ("Example.COM.", name("example.com", true)),
            ("_srv.example.com", name("_srv.example.com", false)),
            ("bücher.example", name("xn--bcher-kva.example", false)),
            ("a\u{ad}b", name("ab", false)),
            ("192.0.2.1", address("192.0.2.1")),
            ("::1", address("::1")),
            ("[::1]", address("::1")),
            ("::ffff:192.0.2.1", address("192.0.2.1")),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_name() {
        let (label, long) = ("a".repeat(64), "a.".repeat(127) + "a");
        for name in [
            "",
            ".",
            " ",
            "a b",
            "a..b",
            ".a",
            "[::1",
            "127.0.0.1:80",
            "1.2.3.999",
            "a/b",
            &label,
            &long,
            "a\0",
        ] {
            assert_eq!(parse(name), Err(Error::InvalidArgument), "{name:?}");
        }
    }

    #[test]
    fn a_name_of_megabytes_is_not_read() {
        // The characters are ones that IDNA drops.
        assert_eq!(parse(&format!("a{}", "\u{ad}".repeat(1 << 20))), Err(Error::InvalidArgument));
    }
}
