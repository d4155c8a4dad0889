//! The extension module `sapwood._core`.
