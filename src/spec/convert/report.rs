//! Collects what a conversion finds, so that everything is reported at once.

use std::fmt::Display;

use crate::manifest::{FieldError, FieldPath, FieldWarning};

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) errors: Vec<FieldError>,
    pub(super) warnings: Vec<FieldWarning>,
}

impl Report {
    /// The manifest is wrong at `path`.
    pub(super) fn error(&mut self, path: &FieldPath, message: impl Display) {
        self.errors.push(FieldError::new(path, message.to_string()));
    }

    /// Adds what was found in another document of the manifest.
    pub(super) fn of_document(&mut self, number: usize, other: Self) {
        let path = |path: &str| match path {
            "" => format!("document {number}"),
            path => format!("document {number}: {path}"),
        };
        let Self { errors, warnings } = other;
        self.errors.extend(errors.into_iter().map(|e| FieldError { path: path(&e.path), ..e }));
        self.warnings.extend(warnings.into_iter().map(|w| FieldWarning { path: path(&w.path), ..w }));
    }

    /// `path` deserves the reader's attention.
    pub(super) fn warn(&mut self, path: &FieldPath, message: impl Display) {
        self.warnings.push(FieldWarning::new(path, message.to_string()));
    }

    /// A field that would change what runs and cannot be honoured, if it is `set`.
    pub(super) fn unsupported(&mut self, set: bool, path: &FieldPath, why: &str) {
        if set {
            self.error(path, format_args!("not supported: {why}"));
        }
    }

    /// A field that changes nothing about what runs here, if it is `set`.
    pub(super) fn ignored(&mut self, set: bool, path: &FieldPath, why: &str) {
        if set {
            self.warn(path, format_args!("ignored: {why}"));
        }
    }

    /// Reports a failed check of `path`.
    pub(super) fn check(&mut self, path: &FieldPath, result: Result<(), String>) -> bool {
        match result {
            Ok(()) => true,
            Err(message) => {
                self.error(path, message);
                false
            }
        }
    }

    /// A number of seconds between `least` and Kubernetes' limit of 32 bits.
    pub(super) fn seconds(&mut self, value: Option<i64>, least: i64, path: &FieldPath) -> Option<u64> {
        let value = value?;
        if (least..=i64::from(i32::MAX)).contains(&value) {
            return u64::try_from(value).ok();
        }
        let most = i32::MAX;
        self.error(path, format_args!("invalid value {value}: must be between {least} and {most}"));
        None
    }

    /// The value of a field with a closed set of values.
    pub(super) fn choice<T: Copy>(
        &mut self,
        path: &FieldPath,
        text: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> =
            choices.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
        let hint = crate::manifest::hint(text, names.iter().copied());
        self.error(path, format_args!("unsupported value {text:?}{hint} (one of: {})", names.join(", ")));
        None
    }
}

/// Whether a field has a value other than its type's empty one: `[]`, `{}`, `""`, `0` and `false` are
/// the same to Kubernetes as no field at all.
pub(super) fn is_set<T: Default + PartialEq>(field: &Option<T>) -> bool {
    field.as_ref().is_some_and(|value| *value != T::default())
}

/// The items of an optional list.
pub(super) fn items<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}
