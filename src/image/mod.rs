//! Images: from a reference in the manifest to machine code.
pub mod reference;
pub use reference::Reference;
