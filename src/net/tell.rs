//! How the network tells the user something.

use std::fmt;
use std::sync::Arc;

/// Tells the user a line. Never blocks; clones tell the same user.
#[derive(Clone)]
pub struct Tell(Arc<dyn Fn(String) + Send + Sync>);

impl Tell {
    /// Tells by calling `tell`, which must not block.
    pub fn new(tell: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Tells `text`.
    pub fn tell(&self, text: String) {
        (self.0)(text);
    }
}

/// To the log of this process.
impl Default for Tell {
    fn default() -> Self {
        Self::new(|text| tracing::warn!("{text}"))
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}
