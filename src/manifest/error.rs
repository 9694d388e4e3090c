//! What is wrong, or ignored, in a manifest: each finding with its field path.

use std::fmt;

/// One thing wrong with the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where, as Kubernetes writes it: `spec.containers[0].image`. Empty: the manifest as a whole.
    pub path: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// One thing in the manifest that is ignored, or probably not meant so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldWarning {
    /// Where, as in [`FieldError::path`].
    pub path: String,
    /// What happens to it and why.
    pub message: String,
}

impl FieldError {
    /// An error at `path`.
    pub fn new(path: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { path: path.to_string(), message: message.into() }
    }
}

impl FieldWarning {
    /// A warning at `path`.
    pub fn new(path: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { path: path.to_string(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        located(f, &self.path, &self.message)
    }
}

impl fmt::Display for FieldWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        located(f, &self.path, &self.message)
    }
}

fn located(f: &mut fmt::Formatter<'_>, path: &str, message: &str) -> fmt::Result {
    if path.is_empty() { f.write_str(message) } else { write!(f, "{path}: {message}") }
}

/// A manifest that cannot run: everything that is wrong with it at once.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
pub struct Invalid {
    /// What is wrong; at least one.
    pub errors: Vec<FieldError>,
    /// What would have been ignored.
    pub warnings: Vec<FieldWarning>,
}

impl fmt::Display for Invalid {
    /// The errors, one per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.errors.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl From<FieldError> for Invalid {
    fn from(error: FieldError) -> Self {
        Self { errors: vec![error], warnings: Vec::new() }
    }
}
