//! What `image:` names.

use std::path::{Path, PathBuf};

/// A parsed `image:` of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A path of this machine, absolute: a component, a core module, or a directory of guest source.
    Local(PathBuf),
}

/// Why a text is no reference that peapod can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Empty, or only blanks.
    #[error("must not be empty; name a .wasm file, for example ./app.wasm")]
    Empty,
    /// A `file:` URL of another machine, or not absolute.
    #[error("`{0}`: a file URL is file:///absolute/path")]
    FileUrl(String),
    /// A URL of a kind that peapod does not fetch.
    #[error("`{0}`: {1} images cannot be fetched yet; name a local file (./app.wasm or file:///…)")]
    Scheme(String, String),
    /// An image of a registry.
    #[error(
        "`{0}` looks like an image of a registry, which peapod cannot pull yet; for a local file write ./{0}"
    )]
    Registry(String),
    /// A path with a NUL byte in it.
    #[error("must not contain a NUL byte")]
    Nul,
}

impl Reference {
    /// Reads `image`; a relative path starts at `base`, the (absolute) directory of the manifest.
    ///
    /// A path begins with `/`, `./` or `../`, is `.` or `..`, or ends with `.wasm`: everything else would
    /// be a registry's in Kubernetes, and is an error for now so that it can become one.
    ///
    /// # Errors
    ///
    /// What it is instead.
    pub fn parse(image: &str, base: &Path) -> Result<Self, ReferenceError> {
        if image.trim().is_empty() {
            return Err(ReferenceError::Empty);
        }
        if image.contains('\0') {
            return Err(ReferenceError::Nul);
        }
        if let Some(path) = image.strip_prefix("file:") {
            return match path.strip_prefix("//") {
                Some(path) if path.starts_with('/') => Ok(Self::Local(path.into())),
                _ => Err(ReferenceError::FileUrl(image.to_owned())),
            };
        }
        if let Some((scheme, _)) = image.split_once("://") {
            return Err(ReferenceError::Scheme(image.to_owned(), scheme.to_owned()));
        }
        let local =
            image.starts_with(['/', '.']) || Path::new(image).extension().is_some_and(|ext| ext == "wasm");
        if !local {
            return Err(ReferenceError::Registry(image.to_owned()));
        }
        Ok(Self::Local(base.join(image.strip_prefix("./").unwrap_or(image))))
    }

    /// The path, for a local one.
    pub fn path(&self) -> &Path {
        match self {
            Self::Local(path) => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(image: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(image, Path::new("/base"))
    }

    #[test]
    fn paths_are_relative_to_the_manifest() {
        for (image, path) in [
            ("./app.wasm", "/base/app.wasm"),
            ("app.wasm", "/base/app.wasm"),
            ("sub/app.wasm", "/base/sub/app.wasm"),
            ("../guest", "/base/../guest"),
            ("/x/app", "/x/app"),
            ("file:///x/app.wasm", "/x/app.wasm"),
        ] {
            assert_eq!(parse(image), Ok(Reference::Local(path.into())), "{image}");
        }
    }

    #[test]
    fn what_is_not_a_path_says_what_it_is() {
        assert_eq!(parse(" "), Err(ReferenceError::Empty));
        assert_eq!(parse("./a\0"), Err(ReferenceError::Nul));
        assert!(matches!(parse("file://host/x"), Err(ReferenceError::FileUrl(_))));
        assert!(matches!(parse("https://x/app.wasm"), Err(ReferenceError::Scheme(_, s)) if s == "https"));
        assert!(matches!(parse("nginx:latest"), Err(ReferenceError::Registry(_))));
        assert!(matches!(parse("ghcr.io/x/app:1.0"), Err(ReferenceError::Registry(_))));
    }
}
