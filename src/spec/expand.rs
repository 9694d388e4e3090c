//! `$(VAR)` in `env`, `command` and `args`.
//!
//! As Kubernetes does it (<https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>):
//! `$(NAME)` becomes the variable's value, `$$` becomes `$` (so that `$$(NAME)` stays text), and a
//! reference to an unknown variable, or one without its `)`, is left as it is. Values are not
//! expanded again.

/// The expansion would be longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expands to too much text")]
pub struct TooLong;

/// Expands `input`; `lookup` knows the variables. At most `limit` bytes come out.
///
/// # Errors
/// [`TooLong`]: values that repeat one another grow exponentially, so the limit is the caller's guard.
pub fn expand<'v>(
    input: &str,
    lookup: impl Fn(&str) -> Option<&'v str>,
    limit: usize,
) -> Result<String, TooLong> {
    let mut output = String::new();
    let mut rest = input;
    while let Some(start) = rest.find('$') {
        let (text, operator) = rest.split_at(start);
        push(&mut output, text, limit)?;
        let after = &operator[1..];
        if let Some(escaped) = after.strip_prefix('$') {
            push(&mut output, "$", limit)?;
            rest = escaped;
        } else if let Some((name, following)) = after.strip_prefix('(').and_then(|r| r.split_once(')')) {
            let reference = &operator[..name.len() + "$()".len()];
            push(&mut output, lookup(name).unwrap_or(reference), limit)?;
            rest = following;
        } else {
            push(&mut output, "$", limit)?;
            rest = after;
        }
    }
    push(&mut output, rest, limit)?;
    Ok(output)
}

fn push(output: &mut String, text: &str, limit: usize) -> Result<(), TooLong> {
    if output.len() + text.len() > limit {
        return Err(TooLong);
    }
    output.push_str(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(input: &str) -> String {
        let lookup = |name: &str| match name {
            "A" => Some("a"),
            "B" => Some("$(A)"),
            "EMPTY" => Some(""),
            "" => Some("nameless"),
            "$(A" => Some("odd"),
            _ => None,
        };
        expand(input, lookup, 1000).unwrap()
    }

    #[test]
    fn as_kubernetes_expands() {
        for (input, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("___$(A)___", "___a___"),
            ("$(A)$(A)", "aa"),
            ("$(A)-$(EMPTY)-$(A)", "a--a"),
            ("$(B)", "$(A)"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$$", "$"),
            ("$", "$"),
            ("a$", "a$"),
            ("$A", "$A"),
            ("${A}", "${A}"),
            ("$(A", "$(A"),
            ("$(", "$("),
            ("$()", "nameless"),
            ("$($(A)", "odd"),
            ("$x$(A)", "$xa"),
            ("€$(A)$€", "€a$€"),
            ("\n$(A)\n", "\na\n"),
        ] {
            assert_eq!(expanded(input), expected, "{input}");
        }
    }

    #[test]
    fn stops_at_the_limit() {
        let lookup = |_: &str| Some("0123456789");
        assert_eq!(expand("$(X)$(X)", lookup, 20).unwrap().len(), 20);
        assert_eq!(expand("$(X)$(X)", lookup, 19), Err(TooLong));
        assert_eq!(expand("abc", lookup, 2), Err(TooLong));
    }

    proptest! {
        #[test]
        fn text_without_a_dollar_is_unchanged(input in "[^$]{0,100}") {
            prop_assert_eq!(expanded(&input), input);
        }

        #[test]
        fn escaping_every_dollar_gives_the_text_back(input in "[$()AB€ ]{0,60}") {
            prop_assert_eq!(expanded(&input.replace('$', "$$")), input);
        }
    }
}
