//! Collection: what is alive in a store's packs, and live frames of old packs copied into new ones.
//!
//! Invariant: whatever a page that was brought names is live, where it lies now as redirects say; a frame is copied as it is, once its chunks are proved.
//! Memory holds a row for each live chunk and the packs in flight, never contents beyond those. Not here: what is deleted and
//! when, reading and writing objects (Python). Protocol: docs/store.md.

mod marks;
mod mover;

pub use marks::{Marks, Totals};
pub use mover::{Moved, Mover, prove};

#[cfg(test)]
mod tests;
