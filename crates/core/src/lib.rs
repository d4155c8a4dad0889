//! sapwood's core. Rooms, lowest first; each may use those above it in this list only.

pub mod digest;
pub mod error;
pub mod job;

pub mod directory;
