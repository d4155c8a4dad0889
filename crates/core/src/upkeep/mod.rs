//! Upkeep: what the file maps of a store need of its packs, held against what the packs hold.
//!
//! Invariant: a need is only met by bytes, or a TOC's row, of exactly its digest at exactly its place.
//! Not here: where bytes come from, what is deleted (Python). Bytes: docs/format.md.

mod needs;

pub use needs::{Need, Needs, paths};
