//! Upkeep: what the file maps of a store need of its packs, held against what the packs hold; packs and maps made again.
//!
//! Invariant: a need is only met by bytes, or a TOC's row, of exactly its digest at exactly its place.
//! Not here: where bytes come from, what is deleted (Python). Bytes: docs/format.md.

mod needs;
mod rebuild;
mod recovery;
mod retell;
mod search;

pub use needs::{Held, Need, Needs, held, paths};
pub use rebuild::Rebuild;
pub use recovery::{PageAt, Recovered, Recovery};
pub use retell::{LostPage, Places};
pub use search::{Spot, read_spot, search};

#[cfg(test)]
mod tests;
