//! Selectors as text: `-l app=web,tier in (front,back)`, `--field-selector status.phase=Running`.
//!
//! ```text
//! text ─► tokens ─► requirements ─► LabelSelector      k8s.io/apimachinery/pkg/labels/selector.go
//! text ─► terms ──► requirements ─► FieldSelector      k8s.io/apimachinery/pkg/fields/selector.go
//! ```

use std::collections::BTreeSet;

use super::name;
use super::network_policy::{Condition, LabelSelector, Requirement};

/// What a requirement may go on with, in the words of `parseOperator`.
const OPERATORS: &str = "in, notin, =, ==, !=";

/// Reads a selector of labels: requirements with commas between, each `key`, `!key`, `key=value`, `key==value`,
/// `key!=value`, `key in (a,b)` or `key notin (a,b)`. No text selects everything.
///
/// # Errors
/// The first thing that cannot be read, in Kubernetes' words.
pub fn labels(text: &str) -> Result<LabelSelector, String> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let requirements = parser.requirements().map_err(|error| format!("unable to parse requirement: {error}"));
    requirements.map(|requirements| LabelSelector { requirements })
}

/// Words, and the signs between them: one of `( ) , ! = == !=`.
fn tokens(text: &str) -> Vec<&str> {
    let is_sign = |byte: u8| b"(),!=".contains(&byte);
    let mut rest = text.trim_start();
    let mut tokens = Vec::new();
    while let Some(first) = rest.bytes().next() {
        let length = match first {
            b'=' | b'!' if rest.as_bytes().get(1) == Some(&b'=') => 2,
            first if is_sign(first) => 1,
            _ => {
                let end = |at: char| at.is_whitespace() || u8::try_from(at).is_ok_and(is_sign);
                rest.find(end).unwrap_or(rest.len())
            }
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next token; empty at the end.
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).copied().unwrap_or_default()
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.at += 1;
        token
    }

    /// Whether the next token is this one, which is taken then.
    fn takes(&mut self, token: &str) -> bool {
        let is_it = self.peek() == token;
        self.at += usize::from(is_it);
        is_it
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        if self.tokens.is_empty() {
            return Ok(requirements);
        }
        loop {
            requirements.push(self.requirement()?);
            match self.take() {
                "" => return Ok(requirements),
                "," if !matches!(self.peek(), "" | ",") => {}
                "," => return Err(format!("found '{}', expected: identifier after ','", self.peek())),
                other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let is_absent = self.takes("!");
        let key = self.take();
        if !is_word(key) {
            return Err(format!(
                "found '{key}', expected: {}",
                if is_absent { "identifier" } else { "!, identifier" }
            ));
        }
        name::qualified(key).map_err(|why| format!("key: Invalid value: {key:?}: {why}"))?;
        let condition = match self.peek() {
            _ if is_absent => Condition::DoesNotExist,
            "" | "," => Condition::Exists,
            _ => self.condition()?,
        };
        if let Condition::In(values) | Condition::NotIn(values) = &condition {
            for value in values {
                name::label_value(value)
                    .map_err(|why| format!("values[0][{key}]: Invalid value: {value:?}: {why}"))?;
            }
        }
        Ok(Requirement { key: key.to_owned(), condition })
    }

    fn condition(&mut self) -> Result<Condition, String> {
        Ok(match self.take() {
            "=" | "==" => Condition::In(self.value()?),
            "!=" => Condition::NotIn(self.value()?),
            "in" => Condition::In(self.values()?),
            "notin" => Condition::NotIn(self.values()?),
            other => return Err(format!("found '{other}', expected: {OPERATORS}")),
        })
    }

    /// One value, which may be empty.
    fn value(&mut self) -> Result<BTreeSet<String>, String> {
        match self.peek() {
            "" | "," => Ok(BTreeSet::from([String::new()])),
            word if is_word(word) => Ok(BTreeSet::from([self.take().to_owned()])),
            other => Err(format!("found '{other}', expected: identifier")),
        }
    }

    /// `(a,b)`: each may be empty.
    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        if !self.takes("(") {
            return Err(format!("found '{}' expected: '('", self.peek()));
        }
        let mut values = BTreeSet::new();
        loop {
            let value = if is_word(self.peek()) { self.take() } else { "" };
            values.insert(value.to_owned());
            match self.take() {
                "," => {}
                ")" => return Ok(values),
                other => return Err(format!("found '{other}', expected: ',', or ')'")),
            }
        }
    }
}

fn is_word(token: &str) -> bool {
    !matches!(token, "" | "(" | ")" | "," | "!" | "=" | "==" | "!=")
}

/// Fields that objects are selected by. Selects everything when it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldRequirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    field: String,
    value: String,
    /// `!=` rather than `=`.
    differs: bool,
}

impl FieldSelector {
    /// Reads `field=value`, `field==value` or `field!=value`, with commas between; `\` before a comma, an equals sign or
    /// itself makes it a part of the value.
    ///
    /// # Errors
    /// A term that is none of those, or a field that `is_known` does not have.
    pub fn parse(text: &str, is_known: impl Fn(&str) -> bool) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for term in terms(text).into_iter().filter(|term| !term.is_empty()) {
            let wrong = || format!("invalid selector: '{text}'; can't understand '{term}'");
            let (at, sign) = term.find('=').map(|at| (at, &term[at..])).ok_or_else(wrong)?;
            let (field, differs, value) = match (term[..at].strip_suffix('!'), sign.strip_prefix("==")) {
                (Some(field), _) => (field, true, &sign[1..]),
                (None, Some(value)) => (&term[..at], false, value),
                (None, None) => (&term[..at], false, &sign[1..]),
            };
            if !is_known(field) {
                return Err(format!("field label not supported: {field}"));
            }
            let value = unescaped(value).ok_or_else(|| format!("invalid field selector: {value}"))?;
            requirements.push(FieldRequirement { field: field.to_owned(), value, differs });
        }
        Ok(Self(requirements))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object has such fields; `value` is that of a field, empty where it has none.
    pub fn selects(&self, value: impl Fn(&str) -> String) -> bool {
        self.0.iter().all(|wanted| (value(&wanted.field) == wanted.value) != wanted.differs)
    }
}

/// What stands between commas that no `\` is before.
fn terms(text: &str) -> Vec<&str> {
    let (mut terms, mut from, mut is_escaped) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            ',' if !is_escaped => {
                terms.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    terms.push(&text[from..]);
    terms
}

fn unescaped(value: &str) -> Option<String> {
    let mut letters = value.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' => letters.next().filter(|letter| ['\\', ',', '='].contains(letter))?,
            // Of a value, they have to be escaped.
            ',' | '=' => return None,
            letter => letter,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spec::network_policy::Labels;

    fn selects(selector: &str, pairs: &[(&str, &str)]) -> bool {
        let labels: Labels =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        super::labels(selector).unwrap_or_else(|error| panic!("{selector}: {error}")).matches(&labels)
    }

    #[test]
    fn each_form_of_a_requirement() {
        let web = &[("app", "web"), ("tier", ""), ("example.com/part", "a")][..];
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            (" app == web , tier ", true),
            ("app=db", false),
            ("app!=db", true),
            ("app != web", false),
            ("none!=web", true),
            ("app in (db, web)", true),
            ("app in(db)", false),
            ("app notin (db,api),example.com/part=a", true),
            ("app notin (web)", false),
            ("none notin (web)", true),
            ("none in (web)", false),
            ("tier=", true),
            ("tier=,app=web", true),
            ("app=", false),
            ("tier in (,x)", true),
            ("tier in ()", true),
            ("app", true),
            ("!app", false),
            ("! none", true),
            ("app,!none,tier", true),
            ("app=web,app=db", false),
            ("in", false),
        ] {
            assert_eq!(selects(selector, web), expected, "{selector}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_as_kubernetes_does() {
        for (selector, error) in [
            ("app web", "found 'web', expected: in, notin, =, ==, !="),
            ("app=web db", "found 'db', expected: ',' or 'end of string'"),
            ("app,", "found '', expected: identifier after ','"),
            ("app,,b", "found ',', expected: identifier after ','"),
            (",app", "found ',', expected: !, identifier"),
            ("!", "found '', expected: identifier"),
            ("!app=web", "found '=', expected: ',' or 'end of string'"),
            ("app=(web)", "found '(', expected: identifier"),
            ("app in web", "found 'web' expected: '('"),
            ("app in (web", "found '', expected: ',', or ')'"),
            ("app===web", "found '=', expected: identifier"),
            ("a_/b/c=x", "key: Invalid value: \"a_/b/c\""),
            ("app=-", "Invalid value: \"-\""),
        ] {
            let told = super::labels(selector).unwrap_err();
            let expected = format!("unable to parse requirement: {error}");
            let is_it = told == expected || (error.contains("Invalid value") && told.contains(error));
            assert!(is_it, "{selector}: {told}");
        }
    }

    #[test]
    fn fields_select() {
        let known = |field: &str| ["metadata.name", "status.phase"].contains(&field);
        let selects = |text: &str| {
            let value = |field: &str| if field == "metadata.name" { "a,b=c" } else { "" }.to_owned();
            FieldSelector::parse(text, known).map(|selector| selector.selects(value))
        };
        for (text, expected) in [
            ("", true),
            ("status.phase=", true),
            ("status.phase!=", false),
            ("status.phase!=Running,status.phase==", true),
            ("metadata.name=a\\,b\\=c", true),
            ("metadata.name==a\\,b\\=c,status.phase=Running", false),
        ] {
            assert_eq!(selects(text), Ok(expected), "{text}");
        }
        let unknown = selects("spec.x=1").unwrap_err();
        assert_eq!(unknown, "field label not supported: spec.x");
        assert_eq!(selects("a").unwrap_err(), "invalid selector: 'a'; can't understand 'a'");
        for wrong in ["=a", "metadata.name=a=b", "metadata.name=a\\b", "status.phase=a\\"] {
            assert!(selects(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[a-z!=(), \\\\./-]{0,24}|.{0,24}") {
            let _ = super::labels(&text);
            let _ = FieldSelector::parse(&text, |_| true);
        }
    }
}
