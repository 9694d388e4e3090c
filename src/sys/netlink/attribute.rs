//! Attributes: a length, a type and a value, one after the other (netlink(7)).

/// `NLA_TYPE_MASK`: an attribute's type without its two flags.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// `NLA_F_NESTED`: the value consists of attributes.
const NESTED: u16 = 0x8000;

/// One attribute, padded. Its value must be shorter than 64 KiB.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// One attribute that consists of others, with the same limit.
pub fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}

/// The attributes of a message after a fixed header of `skip` bytes: (type without flags, value). Ends at the
/// first malformed one.
pub fn attributes(payload: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = payload.get(skip..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, kind) = (word16(rest, 0)?, word16(rest, 2)?);
        let value = rest.get(4..usize::from(length))?;
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
        Some((kind & ATTRIBUTE_TYPE, value))
    })
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_ones_count_the_padding() {
        assert_eq!(attribute(3, b"ab"), [6, 0, 3, 0, b'a', b'b', 0, 0]);
        assert_eq!(nested(4, &[attribute(3, b"ab")]), [12, 0, 4, 0x80, 6, 0, 3, 0, b'a', b'b', 0, 0]);
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        let good = [6, 0, 3, 0, b'h', b'i', 0, 0];
        let short = [9, 0, 4, 0, 1];
        let bytes = [&[0; 4][..], &good, &short].concat();
        assert_eq!(attributes(&bytes, 4).collect::<Vec<_>>(), [(3, &b"hi"[..])]);
        assert_eq!(attributes(&[0, 0, 0, 0], 0).count(), 0);
        assert_eq!(attributes(&[], 16).count(), 0);
    }
}
