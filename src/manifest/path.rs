//! Field paths, written as Kubernetes writes them: `spec.containers[0].env[1].value`.

use std::fmt;

/// The way from a document's root to one of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldPath {
    steps: Vec<Step>,
}

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list, counted from 0.
    Index(usize),
}

impl FieldPath {
    /// The document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The field, or map key, `name` of this.
    pub fn field(&self, name: &str) -> Self {
        self.child(Step::Key(name.to_owned()))
    }

    /// The item `index` of this list.
    pub fn index(&self, index: usize) -> Self {
        self.child(Step::Index(index))
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What this is a part of; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.steps.split_last()?;
        Some(Self { steps: rest.to_vec() })
    }

    /// `path` of this.
    pub fn join(&self, path: &Self) -> Self {
        Self { steps: self.steps.iter().chain(&path.steps).cloned().collect() }
    }

    /// Goes one step down.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Goes one step up.
    pub fn pop(&mut self) {
        self.steps.pop();
    }

    fn child(&self, step: Step) -> Self {
        let mut steps = Vec::with_capacity(self.steps.len() + 1);
        steps.extend_from_slice(&self.steps);
        steps.push(step);
        Self { steps }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                // A key such as `app.kubernetes.io/name` would read as several fields.
                Step::Key(key) if !is_plain(key) => write!(f, "[{}]", key.escape_debug())?,
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_kubernetes_writes_it() {
        let path = FieldPath::root().field("spec").field("containers").index(0).field("image");
        assert_eq!(path.to_string(), "spec.containers[0].image");
        let label = FieldPath::root().field("metadata").field("labels").field("a.b/c");
        assert_eq!(label.to_string(), "metadata.labels[a.b/c]");
        assert_eq!(FieldPath::root().to_string(), "");
    }

    #[test]
    fn goes_up_as_it_went_down() {
        let path = FieldPath::root().field("spec");
        assert_eq!(path.index(3).parent(), Some(path));
        assert_eq!(FieldPath::root().parent(), None);
    }
}
