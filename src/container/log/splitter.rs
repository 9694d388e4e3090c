//! Cuts a stream of bytes into log lines. Pure.
//!
//! As containerd does (`redirectLogs` in `internal/cri/io/logger.go`): a line longer than
//! [`MAX_LINE_BYTES`] comes in pieces of that size tagged [`Tag::Partial`] and ends with a [`Tag::Full`] one;
//! bytes without a newline at the end of the stream are a partial line. How the bytes were cut into
//! writes does not matter.

/// The longest line, in bytes, that is written in one piece: containerd's and the kubelet's 16 KiB
/// (`max_container_log_line_size`). Also what the splitter holds back at most.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// Whether a log entry ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `F`: it does.
    Full,
    /// `P`: the line goes on in the next entry, or the stream ended within it.
    Partial,
}

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub struct LineSplitter {
    pending: Vec<u8>,
}

impl LineSplitter {
    /// Takes in the next bytes and gives every entry that is complete, without its newline.
    pub fn push(&mut self, mut bytes: &[u8], mut entry: impl FnMut(Tag, &[u8])) {
        while !bytes.is_empty() {
            // One byte more than fits decides between a full line of exactly the longest length and a cut.
            let window = &bytes[..bytes.len().min(MAX_LINE_BYTES - self.pending.len() + 1)];
            if let Some(newline) = window.iter().position(|byte| *byte == b'\n') {
                self.emit(Tag::Full, &window[..newline], &mut entry);
                bytes = &bytes[newline + 1..];
            } else if self.pending.len() + window.len() > MAX_LINE_BYTES {
                let fits = window.len() - 1;
                self.emit(Tag::Partial, &window[..fits], &mut entry);
                bytes = &bytes[fits..];
            } else {
                self.pending.extend_from_slice(window);
                bytes = &bytes[window.len()..];
            }
        }
    }

    /// The stream has ended: gives what is left of a line without a newline.
    pub fn finish(&mut self, mut entry: impl FnMut(Tag, &[u8])) {
        if !self.pending.is_empty() {
            self.emit(Tag::Partial, &[], &mut entry);
        }
    }

    fn emit(&mut self, tag: Tag, rest: &[u8], entry: &mut impl FnMut(Tag, &[u8])) {
        if self.pending.is_empty() {
            entry(tag, rest);
        } else {
            self.pending.extend_from_slice(rest);
            entry(tag, &self.pending);
            self.pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<(Tag, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut splitter = LineSplitter::default();
        for chunk in chunks {
            splitter.push(chunk, |tag, line| entries.push((tag, line.to_vec())));
        }
        splitter.finish(|tag, line| entries.push((tag, line.to_vec())));
        entries
    }

    #[test]
    fn lines_empty_lines_and_a_tail() {
        let entries = split([&b"one\n\ntw"[..], b"o\ntail"]);
        let expected: [(Tag, &[u8]); 4] =
            [(Tag::Full, b"one"), (Tag::Full, b""), (Tag::Full, b"two"), (Tag::Partial, b"tail")];
        assert_eq!(entries, expected.map(|(tag, line)| (tag, line.to_vec())));
    }

    #[test]
    fn a_line_of_exactly_the_longest_length_is_full() {
        let line = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(split([line.as_slice(), b"\n"]), [(Tag::Full, line)]);
    }

    #[test]
    fn a_longer_line_comes_in_pieces() {
        let mut line = vec![b'x'; 2 * MAX_LINE_BYTES + 1];
        line.push(b'\n');
        let sizes: Vec<_> = split([line.as_slice()]).iter().map(|(tag, piece)| (*tag, piece.len())).collect();
        assert_eq!(sizes, [(Tag::Partial, MAX_LINE_BYTES), (Tag::Partial, MAX_LINE_BYTES), (Tag::Full, 1)]);
    }

    /// Text whose lines lie around the limits.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![0..40_usize, MAX_LINE_BYTES - 2..MAX_LINE_BYTES + 3, 0..3 * MAX_LINE_BYTES];
        vec(length, 0..6).prop_flat_map(|lengths| {
            any::<bool>().prop_map(move |ends| {
                let mut text = Vec::new();
                for (n, length) in lengths.iter().enumerate() {
                    text.extend((0..*length).map(|at| b'a' + ((at + n) % 26) as u8));
                    text.push(b'\n');
                }
                if !ends {
                    text.pop();
                }
                text
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_cut_into_writes_does_not_matter(text in text(), cuts in vec(any::<prop::sample::Index>(), 0..20)) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let bounds: Vec<_> = [0].into_iter().chain(cuts).chain([text.len()]).collect();
            let cut = split(bounds.windows(2).map(|pair| &text[pair[0]..pair[1]]));
            prop_assert_eq!(&cut, &split([text.as_slice()]));

            let mut joined = Vec::new();
            for (tag, piece) in &cut {
                prop_assert!(piece.len() <= MAX_LINE_BYTES);
                joined.extend_from_slice(piece);
                if *tag == Tag::Full {
                    joined.push(b'\n');
                }
            }
            prop_assert_eq!(joined, text);
        }
    }
}
