//! Paths: images, host paths, mount paths, paths inside of a volume.
//!
//! All lexical: whether something is there is the business of those who open it.

use std::path::{Component, Path, PathBuf};

use crate::image::Reference;

/// What `image:` names; relative paths start at `base`, which is absolute.
pub(super) fn image(text: &str, base: &Path) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("required; a local file such as ./app.wasm".to_owned());
    }
    if text.contains('\0') {
        return Err("a path cannot hold a NUL byte".to_owned());
    }
    if let Some(rest) = text.strip_prefix("file://") {
        // RFC 8089: an empty authority, or localhost.
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if !path.starts_with('/') {
            return Err(format!("{text:?} is not a local file URL; write file:///absolute/path"));
        }
        return Ok(Reference::Local(normalised(Path::new(&percent_decoded(path)?))));
    }
    if text.starts_with('/')
        || text == "."
        || text == ".."
        || text.starts_with("./")
        || text.starts_with("../")
    {
        return Ok(Reference::Local(normalised(&base.join(text))));
    }
    let looks_like_a_file = [".wasm", ".wat", ".cwasm"].iter().any(|end| text.ends_with(end));
    let hint = match text.strip_prefix("~/") {
        Some(rest) => format!("; ~ is the shell's, write /home/…/{rest}"),
        None if looks_like_a_file && !text.contains("://") => format!(", did you mean ./{text}?"),
        None => String::new(),
    };
    Err(format!(
        "{text:?}: registry references are not supported yet; a local file starts with ./, ../, / or file://{hint}"
    ))
}

/// Undoes `%20` and the like (RFC 3986, 2.1).
fn percent_decoded(text: &str) -> Result<String, String> {
    let invalid = || {
        format!(
            "{text:?} has a % that is not followed by two hexadecimal digits of UTF-8 text; write %25 for a %"
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or_else(invalid)?;
        let digit = |d: u8| char::from(d).to_digit(16);
        let (Some(high), Some(low)) = (digit(digits[0]), digit(digits[1])) else { return Err(invalid()) };
        // Two hexadecimal digits are a byte.
        bytes.push((high * 16 + low) as u8);
        rest = after;
    }
    let decoded = String::from_utf8(bytes).map_err(|_| invalid())?;
    if decoded.contains('\0') { Err("a path cannot hold a NUL byte".to_owned()) } else { Ok(decoded) }
}

/// An absolute path without `.`, `..` and empty parts, as written (symbolic links are not followed).
fn normalised(path: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(part) => result.push(part),
            Component::ParentDir => {
                result.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    result
}

/// `mountPath` and `workingDir`: an absolute path, normalised.
pub(super) fn in_container(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("required; an absolute path".to_owned());
    }
    if text.contains('\0') {
        return Err("a path cannot hold a NUL byte".to_owned());
    }
    if !text.starts_with('/') {
        let bare = text.trim_start_matches("./");
        return Err(format!("{text:?} is not an absolute path, did you mean /{bare}?"));
    }
    Ok(normalised(Path::new(text)).to_string_lossy().into_owned())
}

/// `subPath`: relative, without `..`. `None`: the volume itself.
pub(super) fn in_volume(text: &str) -> Result<Option<PathBuf>, String> {
    if text.contains('\0') {
        return Err("a path cannot hold a NUL byte".to_owned());
    }
    if text.starts_with('/') {
        return Err(format!("{text:?} must be a relative path, inside of the volume"));
    }
    let mut result = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(part) => result.push(part),
            Component::CurDir => {}
            _ => return Err(format!("{text:?} must not contain '..'")),
        }
    }
    Ok(Some(result).filter(|path| !path.as_os_str().is_empty()))
}

/// `path` of a file that a volume is made of: relative, its first part not beginning with `..`, which is the
/// volume's own (`ValidateLocalNonReservedPath` in `pkg/apis/core/validation/validation.go`), and no longer than a
/// file system can have it (`validatePath` in `pkg/volume/util/atomic_writer.go`).
pub(super) fn of_file_in_volume(text: &str) -> Result<PathBuf, String> {
    const MAX_PATH_BYTES: usize = 4096;
    const MAX_NAME_BYTES: usize = 255;
    if text.is_empty() {
        return Err("required; the path of the file in the volume".to_owned());
    }
    let path = in_volume(text)?.ok_or_else(|| format!("{text:?} must name a file"))?;
    if path.as_os_str().as_encoded_bytes().starts_with(b"..") {
        return Err(format!("{text:?} must not start with '..'"));
    }
    if text.len() > MAX_PATH_BYTES {
        return Err(format!("must be no more than {MAX_PATH_BYTES} bytes"));
    }
    if path.iter().any(|name| name.len() > MAX_NAME_BYTES) {
        return Err(format!("each part must be no more than {MAX_NAME_BYTES} bytes"));
    }
    Ok(path)
}

/// `hostPath.path`: absolute, without `..`.
pub(super) fn on_host(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("required; an absolute path of this machine".to_owned());
    }
    if text.contains('\0') {
        return Err("a path cannot hold a NUL byte".to_owned());
    }
    if !text.starts_with('/') {
        return Err(format!("{text:?} is not an absolute path"));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(format!("{text:?} must not contain '..'"));
    }
    Ok(normalised(Path::new(text)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn local(text: &str) -> String {
        match image(text, Path::new("/srv/pods")) {
            Ok(Reference::Local(path)) => path.to_string_lossy().into_owned(),
            Err(error) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn local_images() {
        for (text, path) in [
            ("./app.wasm", "/srv/pods/app.wasm"),
            ("../app.wasm", "/srv/app.wasm"),
            ("./a/../b/./c.wasm", "/srv/pods/b/c.wasm"),
            ("/opt/app.wasm", "/opt/app.wasm"),
            ("file:///opt/app.wasm", "/opt/app.wasm"),
            ("file://localhost/opt/app.wasm", "/opt/app.wasm"),
            ("file:///opt/my%20app%2Ewasm", "/opt/my app.wasm"),
            ("./guest", "/srv/pods/guest"),
            (".", "/srv/pods"),
            ("../../../../x", "/x"),
        ] {
            assert_eq!(local(text), path, "{text}");
        }
    }

    #[test]
    fn other_images_are_refused() {
        for (text, part) in [
            ("nginx:latest", "registry references are not supported yet"),
            ("app.wasm", "did you mean ./app.wasm?"),
            ("dir/app.wasm", "did you mean ./dir/app.wasm?"),
            ("~/app.wasm", "~ is the shell's"),
            ("oci://x/app.wasm", "registry references"),
            ("file://app.wasm", "file:///absolute/path"),
            ("file://host/app.wasm", "file:///absolute/path"),
            ("file:///a%2", "%25"),
            ("file:///a%zz", "%25"),
            ("file:///a%00", "NUL"),
            ("./a\0", "NUL"),
            ("", "required"),
        ] {
            let error = image(text, Path::new("/srv")).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn container_paths() {
        assert_eq!(in_container("/a//b/./c/../d/"), Ok("/a/b/d".to_owned()));
        assert_eq!(in_container("/"), Ok("/".to_owned()));
        assert!(in_container("data").unwrap_err().contains("did you mean /data?"));
        assert!(in_container("").is_err());
    }

    #[test]
    fn volume_paths() {
        assert_eq!(in_volume("a/./b"), Ok(Some("a/b".into())));
        assert_eq!(in_volume(""), Ok(None));
        assert_eq!(in_volume("./."), Ok(None));
        assert!(in_volume("a/../b").is_err());
        assert!(in_volume("/a").is_err());
    }

    #[test]
    fn paths_of_files_in_volumes() {
        for (text, path) in
            [("a", "a"), ("a/./b//c/", "a/b/c"), ("./a..b", "a..b"), ("a/..b", "a/..b"), (".a", ".a")]
        {
            assert_eq!(of_file_in_volume(text), Ok(path.into()), "{text}");
        }
        let (long, deep) = ("a".repeat(256), "a/".repeat(2049));
        for (text, part) in [
            ("", "required"),
            (".", "must name a file"),
            ("/a", "must be a relative path"),
            ("..", "must not contain '..'"),
            ("../a", "must not contain '..'"),
            ("a/..", "must not contain '..'"),
            ("..data", "must not start with '..'"),
            ("./..data/a", "must not start with '..'"),
            ("a\0", "NUL"),
            (long.as_str(), "no more than 255"),
            (deep.as_str(), "no more than 4096"),
        ] {
            let error = of_file_in_volume(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn host_paths() {
        assert_eq!(on_host("/var//lib/"), Ok("/var/lib".into()));
        assert_eq!(on_host("/a..b"), Ok("/a..b".into()));
        assert!(on_host("/a/../b").is_err());
        assert!(on_host("a").is_err());
    }

    proptest! {
        #[test]
        fn nothing_leaves_a_volume(text in "[a./]{0,20}") {
            if let Ok(Some(path)) = in_volume(&text) {
                prop_assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
            }
        }

        #[test]
        fn container_paths_are_stable(text in "/[a./]{0,20}") {
            let once = in_container(&text).unwrap();
            prop_assert_eq!(in_container(&once).unwrap(), once);
        }
    }
}
