//! The content of an entry for those who take a `Read`.

use std::io::{self, Read};

use super::Reader;
use crate::error::Error;

/// The content of the entry that a reader is at. What `read` refuses is told by `blame` as it was.
pub struct Content<'a, R> {
    reader: &'a mut Reader<R>,
    refused: Option<Error>,
}

impl<R: Read> Reader<R> {
    pub fn content(&mut self) -> Content<'_, R> {
        Content { reader: self, refused: None }
    }
}

impl<R> Content<'_, R> {
    /// The error of whoever read from here: ours where it came from here, else `other`.
    pub fn blame(self, other: Error) -> Error {
        self.refused.unwrap_or(other)
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|refused| {
            let told = io::Error::new(io::ErrorKind::InvalidData, refused.to_string());
            self.refused = Some(refused);
            told
        })
    }
}
