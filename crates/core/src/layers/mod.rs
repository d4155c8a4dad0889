//! The layers of an image as one tree.
//!
//! Invariant: what is given out is a tree that any reader of file maps may believe, and each name in it says what the topmost
//! layer that has it says. Whatever layers say, nothing of one is seen through what a later one has taken away.
//! Not here: where layers come from, and that they are the image's. Rules: docs/oci.md, "Layers".

mod kept;
mod links;
mod merge;
mod merged;
mod source;

pub use kept::{Kept, keep, open};
pub use merge::merge;

#[cfg(test)]
mod tests;
