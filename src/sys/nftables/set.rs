//! Sets and maps: what their elements are made of.

use std::net::IpAddr;

use super::{Family, string, text};
use crate::sys::netlink::{attribute, attributes, nested};

/// The type of a comment among an element's user data (libnftnl/udata.h), which nft(8) shows.
const COMMENT: u8 = 0;

/// What a set's keys, or a map's values, consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An IPv4 address.
    Ipv4Address,
    /// An IPv6 address.
    Ipv6Address,
    /// A transport protocol's number.
    Protocol,
    /// A port.
    Port,
}

impl Type {
    /// An address of this family.
    pub fn address(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4Address,
            Family::V6 => Self::Ipv6Address,
        }
    }

    /// nft(8)'s number of it, with which it shows elements.
    fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Ipv6Address => 8,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }

    /// Bytes, padded to a register's.
    fn length(self) -> u32 {
        if self == Self::Ipv6Address { 16 } else { 4 }
    }

    pub(super) fn number_of_all(types: &[Self]) -> u32 {
        types.iter().fold(0, |number, one| number << 6 | one.number())
    }

    pub(super) fn length_of_all(types: &[Self]) -> u32 {
        types.iter().map(|one| one.length()).sum()
    }
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its key: each part padded to 4 bytes, in network byte order.
    pub key: Vec<u8>,
    /// What a map has for it.
    pub value: Option<Vec<u8>>,
    /// Whose it is, for one that wants it known: at most 250 bytes.
    pub comment: String,
}

impl Element {
    /// One of a set of addresses.
    pub fn address(ip: IpAddr) -> Self {
        Self { key: octets(ip), value: None, comment: String::new() }
    }

    pub(super) fn attributes(&self) -> Vec<Vec<u8>> {
        let data = |value: &[u8]| [attribute(1, value)];
        let mut attributes = vec![nested(1, &data(&self.key))];
        attributes.extend(self.value.as_ref().map(|value| nested(2, &data(value))));
        if !self.comment.is_empty() {
            let comment = text(&self.comment);
            attributes.push(attribute(6, &[&[COMMENT, comment.len() as u8], &comment[..]].concat()));
        }
        attributes
    }

    pub(super) fn parse(element: &[u8]) -> Option<Self> {
        let (mut key, mut value, mut comment) = (None, None, String::new());
        let data = |nested| attributes(nested, 0).find(|(kind, _)| *kind == 1).map(|(_, data)| data.to_vec());
        for (kind, content) in attributes(element, 0) {
            match (kind, content) {
                (1, content) => key = data(content),
                (2, content) => value = data(content),
                (6, [COMMENT, _, content @ ..]) => comment = string(content).unwrap_or_default(),
                _ => {}
            }
        }
        Some(Self { key: key?, value, comment })
    }
}

/// An address in network byte order, as registers hold it.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_survive_the_way() {
        let element = Element { key: vec![1; 12], value: Some(vec![2; 8]), comment: "pea0123".into() };
        assert_eq!(Element::parse(&element.attributes().concat()), Some(element));
        let address = Element::address(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(Element::parse(&address.attributes().concat()), Some(address));
        assert_eq!(Element::parse(&[]), None);
        assert_eq!(Type::number_of_all(&[Type::Ipv4Address, Type::Port]), 7 << 6 | 13);
    }
}
