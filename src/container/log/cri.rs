//! The CRI log format: `<RFC3339Nano> <stdout|stderr> <F|P> <content>\n`. Pure.
//!
//! See <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>.

use std::io::Write;

use jiff::Timestamp;

use super::splitter::Tag;

/// Which output stream of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Appends one entry to `log`. The time has always nine digits of fraction, so that lines sort as text.
pub fn append_entry(log: &mut Vec<u8>, at: Timestamp, output: Output, tag: Tag, content: &[u8]) {
    let tag = match tag {
        Tag::Full => "F",
        Tag::Partial => "P",
    };
    // Writing to a Vec cannot fail.
    let _ = write!(log, "{at:.9} {} {tag} ", output.as_str());
    log.extend_from_slice(content);
    log.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_the_kubelet_parses() {
        let mut log = Vec::new();
        append_entry(
            &mut log,
            Timestamp::new(1_700_000_000, 5).unwrap(),
            Output::Stderr,
            Tag::Full,
            b"hello",
        );
        append_entry(&mut log, Timestamp::UNIX_EPOCH, Output::Stdout, Tag::Partial, b"");
        assert_eq!(
            String::from_utf8(log).unwrap(),
            "2023-11-14T22:13:20.000000005Z stderr F hello\n1970-01-01T00:00:00.000000000Z stdout P \n"
        );
    }
}
