//! sys
pub mod fork;
