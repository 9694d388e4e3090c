//! Files of variables, which init containers write and `fileKeyRef` reads (KEP-3721).
//!
//! ```text
//! # a comment
//! NAME='any text but a single quote, of any number of lines' # a comment
//! EMPTY=''
//! ```
//!
//! A part of the shell's syntax, as strict as the kubelet is (`ParseEnv` in `pkg/kubelet/util/env/env_util.go`).

/// What is wrong with a file, and in which line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct EnvFileError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

const BLANK: [char; 2] = [' ', '\t'];

/// The value of `key` in `text`: the first one. `None`: it is not there. What comes after it is not looked at.
///
/// # Errors
/// The file is not in this format.
pub(super) fn value_of(text: &str, key: &str) -> Result<Option<String>, EnvFileError> {
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let wrong = |what| EnvFileError { line: number, what };
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(wrong("there is no '='; write NAME='value'"))?;
        if name.is_empty() {
            return Err(wrong("there is no name before '='"));
        }
        if name.ends_with(BLANK) {
            return Err(wrong("there must be no space before '='"));
        }
        let value = if value.starts_with(BLANK) {
            // To a shell, the value is empty and what follows is a command.
            String::new()
        } else {
            let begun = value
                .strip_prefix('\'')
                .ok_or(wrong("the value must be in single quotes, as in KEY='value'"))?;
            let mut value = String::new();
            let mut rest = begun;
            let after = loop {
                if let Some((end, after)) = rest.split_once('\'') {
                    value.push_str(end);
                    break after.trim_start_matches(BLANK);
                }
                value.push_str(rest);
                value.push('\n');
                (rest, _) = lines.next().ok_or(wrong("the single quote is not closed"))?;
            };
            if !(after.is_empty() || after.starts_with('#')) {
                return Err(wrong("only a comment may follow the closing quote"));
            }
            value
        };
        if name == key {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "# written by init\n\n  A='1'\nB='two # not a comment' # a comment\n\tC='x\n y\n\nz'#end\nD= 'e'\nA='2'\nE=''\nF.g-h='=$(A)\\n\"'\r\n";

    #[test]
    fn values_are_found_as_they_are() {
        for (key, value) in [
            ("A", Some("1")),
            ("B", Some("two # not a comment")),
            ("C", Some("x\n y\n\nz")),
            ("D", Some("")),
            ("E", Some("")),
            ("F.g-h", Some("=$(A)\\n\"")),
            ("G", None),
            (" y", None),
        ] {
            assert_eq!(value_of(FILE, key), Ok(value.map(str::to_owned)), "{key}");
        }
        assert_eq!(value_of("", "A"), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, what) in [
            ("A='1'\nexport B", 2, "no '='"),
            ("='1'", 1, "no name"),
            ("A ='1'", 1, "no space before"),
            ("A=1", 1, "single quotes"),
            ("A=", 1, "single quotes"),
            ("A=\"1\"", 1, "single quotes"),
            ("\nA='1\n2\n", 2, "not closed"),
            ("A='1'2", 1, "only a comment"),
            ("A='it''s'", 1, "only a comment"),
        ] {
            let error = value_of(text, "Z").unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.what.contains(what), "{text}: {error}");
        }
        assert_eq!(value_of("A='1'\nnonsense", "A"), Ok(Some("1".into())), "what follows does not matter");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[A=' #\n\t\\\\é]{0,60}", key in "A{1,2}") {
            if let Ok(Some(value)) = value_of(&text, &key) {
                prop_assert!(!value.contains('\''));
            }
        }

        #[test]
        fn what_is_written_is_read(pairs in prop::collection::vec(("[A-Z_][A-Z0-9_.]{0,8}", "[^'\r]{0,40}"), 0..8)) {
            let text: String = pairs.iter().map(|(name, value)| format!("{name}='{value}' # {name}\n")).collect();
            for (name, _) in &pairs {
                let first = pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
                prop_assert_eq!(value_of(&text, name), Ok(first));
            }
        }
    }
}
