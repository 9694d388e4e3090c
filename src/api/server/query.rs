//! The parameters of a request.

use hyper::Request;

use super::Failure;
use crate::api::selection::Selection;

/// What stands behind the `?` of a request's path, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of a request, which may be of these names only.
    pub(super) fn of<B>(request: &Request<B>, known: &[&str]) -> Result<Self, Failure> {
        Self::parse(request.uri().query().unwrap_or_default(), known)
    }

    /// Those of a query, which may be of these names only.
    pub(super) fn parse(query: &str, known: &[&str]) -> Result<Self, Failure> {
        let mut parameters = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&&*name) {
                return Err(Failure::BadRequest(format!("unknown parameter {name:?}")));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// `labelSelector` and `fieldSelector`; `fields` are those that the kind can be selected by.
    pub(super) fn selection(&self, fields: &[&str]) -> Result<Selection, Failure> {
        let text = |name| self.get(name).unwrap_or_default();
        let selection = Selection::parse(text("labelSelector"), text("fieldSelector"), fields);
        selection.map_err(Failure::BadRequest)
    }

    /// `dryRun=All`: whether everything is done but for the change itself.
    pub(super) fn is_dry_run(&self) -> Result<bool, Failure> {
        match self.get("dryRun") {
            None | Some("") => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Failure::BadRequest(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }

    /// The first of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All of this name, in order.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Percent-encoding of a parameter's value, or of a part of a path (RFC 3986, section 2.1).
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |text, byte| match plain(byte) {
        true => text + char::from(byte).encode_utf8(&mut [0; 4]),
        false => text + &format!("%{byte:02X}"),
    })
}

/// `application/x-www-form-urlencoded`: `+` is a space, `%2C` a comma.
pub(super) fn decode(text: &str) -> Result<String, Failure> {
    let wrong = || Failure::BadRequest(format!("not well encoded: {text:?}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
                let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(wrong()) };
                rest = after.get(2..).unwrap_or_default();
                (high * 16 + low) as u8
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_known() {
        let known = ["fieldSelector", "watch"];
        let query = "fieldSelector=involvedObject.name%3Dweb%2creason!%3D%C3%BC+x&watch";
        let parameters = Parameters::parse(query, &known).unwrap();
        assert_eq!(parameters.get("fieldSelector"), Some("involvedObject.name=web,reason!=ü x"));
        assert_eq!((parameters.get("watch"), parameters.get("limit")), (Some(""), None));
        assert!(Parameters::parse("", &[]).unwrap().0.is_empty());
        for wrong in ["limit=1", "watch=%", "watch=%4", "watch=%zz", "watch=%ff", "%=1"] {
            assert!(matches!(Parameters::parse(wrong, &known), Err(Failure::BadRequest(_))), "{wrong}");
        }
    }
}
