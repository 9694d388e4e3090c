//! Names: what Kubernetes allows as the name of what.
//!
//! Each check returns what is wrong in the words of `k8s.io/apimachinery/pkg/util/validation`, with a
//! name that would do where one is near. The caller adds the path.

/// RFC 1123, 2.1: the longest label, bytes.
pub const MAX_LABEL_BYTES: usize = 63;
/// RFC 1123, 2.1: the longest domain name, bytes.
pub const MAX_SUBDOMAIN_BYTES: usize = 253;
/// RFC 6335, 5.1: the longest service name, bytes.
const MAX_PORT_NAME_BYTES: usize = 15;

type Checked = Result<(), String>;

/// A DNS label: containers, volumes, namespaces, hostnames.
///
/// # Errors
/// What is wrong with it.
pub fn label(name: &str) -> Checked {
    if is_label(name) {
        return Ok(());
    }
    Err(invalid(
        name,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
        MAX_LABEL_BYTES,
        mended(name, false),
    ))
}

/// A DNS subdomain: pods, ConfigMaps, host aliases.
///
/// # Errors
/// What is wrong with it.
pub fn subdomain(name: &str) -> Checked {
    if is_subdomain(name) {
        return Ok(());
    }
    Err(invalid(
        name,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
        MAX_SUBDOMAIN_BYTES,
        mended(name, true),
    ))
}

/// The key of a label or annotation: `[prefix/]name`.
///
/// # Errors
/// What is wrong with it.
pub fn qualified(key: &str) -> Checked {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix {
        subdomain(prefix).map_err(|why| format!("prefix part: {why}"))?;
    }
    if !name.is_empty() && is_label_value(name) {
        return Ok(());
    }
    Err(invalid(
        key,
        "the name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        MAX_LABEL_BYTES,
        None,
    ))
}

/// The value of a label.
///
/// # Errors
/// What is wrong with it.
pub fn label_value(value: &str) -> Checked {
    if is_label_value(value) {
        return Ok(());
    }
    Err(invalid(
        value,
        "a label's value must be empty or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        MAX_LABEL_BYTES,
        None,
    ))
}

/// The name of an environment variable.
///
/// # Errors
/// What is wrong with it.
pub fn env(name: &str) -> Checked {
    if !name.is_empty() && name.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=') {
        return Ok(());
    }
    if name.is_empty() {
        return Err("required".to_owned());
    }
    Err(format!(
        "invalid value {name:?}: a valid environment variable name must consist only of printable ASCII characters other than '='"
    ))
}

/// A key of a ConfigMap or a Secret (`IsConfigMapKey` in `apimachinery/pkg/util/validation`).
pub fn config_key(key: &str) -> Checked {
    const MAX: usize = 253;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.is_empty() || key.len() > MAX || !key.chars().all(fits) {
        return Err(format!("{key:?} is no valid key: 1 to {MAX} alphanumeric characters, '-', '_' or '.'"));
    }
    match key {
        "." => Err("must not be '.'".to_owned()),
        ".." => Err("must not be '..'".to_owned()),
        _ if key.starts_with("..") => Err(format!("{key:?} must not start with '..'")),
        _ => Ok(()),
    }
}

/// The name of a port.
///
/// # Errors
/// What is wrong with it.
pub fn port(name: &str) -> Checked {
    let wrong = if name.len() > MAX_PORT_NAME_BYTES {
        "must be no more than 15 characters"
    } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        "must contain only lower case alphanumeric characters or '-'"
    } else if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        "must contain at least one letter"
    } else if name.contains("--") || name.starts_with('-') || name.ends_with('-') {
        "must not begin or end with '-' or contain '--'"
    } else {
        return Ok(());
    };
    Err(format!("invalid value {name:?}: {wrong}"))
}

/// The UTS hostname of a pod that names none: its name cut to 63 bytes, as the kubelet does.
pub fn hostname(pod_name: &str) -> String {
    // Pod names are ASCII; a name that is not was refused, and its hostname is never used.
    let cut: String = pod_name.chars().take(MAX_LABEL_BYTES).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= MAX_LABEL_BYTES
        && name.bytes().next().is_some_and(inner)
        && name.bytes().next_back().is_some_and(inner)
        && name.bytes().all(|b| inner(b) || b == b'-')
}

fn is_subdomain(name: &str) -> bool {
    // Unlike in DNS, the parts of a Kubernetes subdomain may be longer than a label.
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= MAX_SUBDOMAIN_BYTES
        && name.split('.').all(|part| {
            part.bytes().next().is_some_and(inner)
                && part.bytes().next_back().is_some_and(inner)
                && part.bytes().all(|b| inner(b) || b == b'-')
        })
}

fn is_label_value(value: &str) -> bool {
    let outer = |b: u8| b.is_ascii_alphanumeric();
    value.len() <= MAX_LABEL_BYTES
        && value.bytes().next().is_none_or(outer)
        && value.bytes().next_back().is_none_or(outer)
        && value.bytes().all(|b| outer(b) || matches!(b, b'-' | b'_' | b'.'))
}

fn invalid(name: &str, rule: &str, max_bytes: usize, meant: Option<String>) -> String {
    if name.is_empty() {
        return "required".to_owned();
    }
    if name.len() > max_bytes {
        return format!("invalid value: must be no more than {max_bytes} bytes, it has {}", name.len());
    }
    let hint = meant.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
    format!("invalid value {name:?}: {rule}{hint}")
}

/// A valid name made of an invalid one.
fn mended(name: &str, dots: bool) -> Option<String> {
    let mapped: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || (dots && c == '.') { c } else { '-' })
        .collect();
    let trimmed = mapped.trim_matches(['-', '.']);
    let valid = if dots { is_subdomain(trimmed) } else { is_label(trimmed) };
    valid.then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "a-b", "0", "my-name", "123-abc", &"a".repeat(63)] {
            assert_eq!(label(good), Ok(()));
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a.b", "ä", &"a".repeat(64), "a b"] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert!(label("My_App").unwrap_err().contains("did you mean \"my-app\"?"));
        assert_eq!(label("").unwrap_err(), "required");
    }

    #[test]
    fn subdomains() {
        for good in ["a", "a.b", "a-b.c", "1.2"] {
            assert_eq!(subdomain(good), Ok(()));
        }
        for bad in ["", ".", "a..b", "a.", ".a", "A.b", "a-.b", &"a".repeat(254)] {
            assert!(subdomain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_and_values() {
        for good in ["app", "app.kubernetes.io/name", "a_B.c", "x/y"] {
            assert_eq!(qualified(good), Ok(()));
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "A_/b", "a b"] {
            assert!(qualified(bad).is_err(), "{bad}");
        }
        assert_eq!(label_value(""), Ok(()));
        assert_eq!(label_value("V1.0_x"), Ok(()));
        assert!(label_value("a b").is_err());
        assert!(label_value("-").is_err());
    }

    #[test]
    fn env_names() {
        for good in ["PATH", "a.b", "1A", "A B"] {
            assert_eq!(env(good), Ok(()));
        }
        for bad in ["", "A=B", "Ä", "A\n"] {
            assert!(env(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn port_names() {
        for good in ["http", "a", "8080-tcp", "fifteen-letters"] {
            assert_eq!(port(good), Ok(()));
        }
        for bad in ["", "8080", "HTTP", "a--b", "-a", "a-", "sixteen-letters-"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hostnames_are_cut() {
        assert_eq!(hostname("web"), "web");
        assert_eq!(hostname(&"a".repeat(70)), "a".repeat(63));
        assert_eq!(hostname(&format!("{}-.{}", "a".repeat(61), "b".repeat(9))), "a".repeat(61));
    }

    proptest! {
        #[test]
        fn suggestions_are_valid(name in "\\PC{0,80}") {
            if let Some(meant) = mended(&name, false) { prop_assert!(is_label(&meant)); }
            if let Some(meant) = mended(&name, true) { prop_assert!(is_subdomain(&meant)); }
        }
    }
}
