//! `WriteRequest`: a piece of a blob that is being written.

use std::ops::Range;

use super::range_of;
use crate::wire::{Fields, Value};

#[derive(Default)]
pub struct Piece {
    pub resource_name: String,
    pub offset: i64,
    pub is_last: bool,
    /// Where in the message its bytes lie.
    pub data: Range<usize>,
}

impl Piece {
    /// `None`: it is no such message.
    pub fn of(message: &[u8]) -> Option<Piece> {
        let mut out = Piece::default();
        for field in Fields(message) {
            match field? {
                (1, Value::Bytes(name)) => out.resource_name = String::from_utf8_lossy(name).into_owned(),
                (2, Value::Number(offset)) => out.offset = offset.cast_signed(),
                (3, Value::Number(is_last)) => out.is_last = is_last != 0,
                (10, Value::Bytes(data)) => out.data = range_of(message, data),
                _ => {}
            }
        }
        Some(out)
    }
}
