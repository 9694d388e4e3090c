//! The variables that `$(VAR)` can stand for, and how much text may come of them.

use std::collections::HashMap;

use super::{MAX_EXPANSION_BYTES, MAX_STRING_BYTES};
use crate::spec::expand::{TooLong, expand};

/// Variables in the order in which they came.
pub(in crate::spec) struct Scope {
    variables: Vec<(String, String)>,
    position: HashMap<String, usize>,
    /// Bytes that may still come out.
    budget: usize,
}

impl Default for Scope {
    fn default() -> Self {
        Self::within(MAX_EXPANSION_BYTES)
    }
}

impl Scope {
    /// No variables yet, and at most `budget` bytes of text.
    pub(in crate::spec) fn within(budget: usize) -> Self {
        Self { variables: Vec::new(), position: HashMap::new(), budget }
    }

    /// Bytes that may still come out.
    pub(in crate::spec) fn budget(&self) -> usize {
        self.budget
    }

    /// Sets a variable to a text that stands for itself. One that is there keeps its place.
    ///
    /// # Errors
    /// [`TooLong`]: it is longer than a variable may be, or than what is left.
    pub(in crate::spec) fn set(&mut self, name: &str, value: &str) -> Result<(), TooLong> {
        self.take(value.len())?;
        self.put(name, value.to_owned());
        Ok(())
    }

    /// Sets a variable to a text in which variables before it are expanded.
    ///
    /// # Errors
    /// See [`Scope::expand`].
    pub(in crate::spec) fn set_expanded(&mut self, name: &str, text: &str) -> Result<(), TooLong> {
        let value = self.expand(text)?;
        self.put(name, value);
        Ok(())
    }

    /// The text with its variables expanded.
    ///
    /// # Errors
    /// [`TooLong`]: it gets longer than one string may be, or than what is left.
    pub(in crate::spec) fn expand(&mut self, text: &str) -> Result<String, TooLong> {
        let expanded = expand(text, |name| self.get(name), MAX_STRING_BYTES.min(self.budget))?;
        self.take(expanded.len())?;
        Ok(expanded)
    }

    /// A variable's value.
    pub(in crate::spec) fn get(&self, name: &str) -> Option<&str> {
        self.position.get(name).map(|at| self.variables[*at].1.as_str())
    }

    /// All variables.
    pub(in crate::spec) fn into_variables(self) -> Vec<(String, String)> {
        self.variables
    }

    fn put(&mut self, name: &str, value: String) {
        match self.position.get(name) {
            Some(&at) => self.variables[at].1 = value,
            None => {
                self.position.insert(name.to_owned(), self.variables.len());
                self.variables.push((name.to_owned(), value));
            }
        }
    }

    fn take(&mut self, bytes: usize) -> Result<(), TooLong> {
        if bytes > MAX_STRING_BYTES {
            return Err(TooLong);
        }
        self.budget = self.budget.checked_sub(bytes).ok_or(TooLong)?;
        Ok(())
    }
}
