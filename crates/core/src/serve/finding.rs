//! `FindMissingBlobsRequest`, and its answer.

use std::ops::Range;

use super::{Here, Told, range_of};
use crate::digest::Digest;
use crate::wire::{Fields, Value, put_bytes};

/// What is asked for, in order.
#[derive(Default)]
pub struct Finding {
    pub instance: String,
    pub function: i64,
    /// Where the `Digest` lies in the message, and what it is.
    blobs: Vec<(Range<usize>, Option<Digest>)>,
}

impl Finding {
    /// `None`: it is no such message.
    pub fn of(message: &[u8]) -> Option<Finding> {
        let mut out = Finding::default();
        for field in Fields(message) {
            match field? {
                (1, Value::Bytes(name)) => out.instance = String::from_utf8_lossy(name).into_owned(),
                (2, Value::Bytes(told)) => {
                    let digest = Told::of(told)?.digest();
                    out.blobs.push((range_of(message, told), digest));
                }
                (3, Value::Number(function)) => out.function = function.cast_signed(),
                _ => {}
            }
        }
        Some(out)
    }

    /// The first that is no digest.
    pub fn bad<'a>(&self, message: &'a [u8]) -> Option<Told<'a>> {
        let (range, _) = self.blobs.iter().find(|(_, digest)| digest.is_none())?;
        Told::of(&message[range.clone()])
    }

    /// `FindMissingBlobsResponse`, of the message that was parsed.
    pub fn answer(&self, message: &[u8], here: Here<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        for (range, digest) in &self.blobs {
            if digest.is_none_or(|digest| !here.has(&digest)) {
                put_bytes(&mut out, 2, &message[range.clone()]);
            }
        }
        out
    }
}
