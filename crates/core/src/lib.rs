//! sapwood's core. Rooms, lowest first; each may use those above it in this list only.

pub mod digest;
pub mod error;
pub mod job;

pub mod wire;

pub mod directory;
pub mod scan;

pub mod select;

pub mod tar;

pub mod chunk;
pub mod index;

pub mod watch;

pub mod archive;

pub mod filemap;

pub mod layers;

pub mod erofs;

pub mod stargz;

pub mod convert;

pub mod regzip;

pub mod seek;

pub mod pull;
pub mod push;

pub mod serve;

pub mod copy;

pub mod collect;

pub mod upkeep;

pub mod wanted;

pub mod cache;

pub mod fuse;
