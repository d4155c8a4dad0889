//! `BatchUpdateBlobsRequest`: proved, made records of a log, and answered.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::log::{BLOB, record};
use super::{Here, Place, Staged, Told, range_of};
use crate::archive::Expand;
use crate::digest::Digest;
use crate::wire::{Fields, Value, put_bytes};

const IDENTITY: u64 = 0;
const ZSTD: u64 = 1;

/// What is sent, in order.
#[derive(Default)]
pub struct Batch {
    pub instance: String,
    pub function: i64,
    rows: Vec<Row>,
}

struct Row {
    told: Range<usize>,
    size: i64,
    data: Range<usize>,
    compressor: u64,
    digest: Option<Digest>,
    /// Of what came compressed.
    plain: Option<Vec<u8>>,
    is_good: bool,
}

/// What is wrong with a blob that was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    Digest,
    Compressor(u64),
    /// It is not what its digest says; the text says how.
    Content(String),
}

impl Batch {
    /// `None`: it is no such message.
    pub fn of(message: &[u8]) -> Option<Batch> {
        let mut out = Batch::default();
        for field in Fields(message) {
            match field? {
                (1, Value::Bytes(name)) => out.instance = String::from_utf8_lossy(name).into_owned(),
                (2, Value::Bytes(request)) => out.rows.push(Row::of(message, request)?),
                (5, Value::Number(function)) => out.function = function.cast_signed(),
                _ => {}
            }
        }
        Some(out)
    }

    /// Of all blobs together, as their digests say.
    pub fn size(&self) -> u64 {
        self.rows.iter().fold(0, |sum, row| sum.saturating_add(u64::try_from(row.size).unwrap_or(0)))
    }

    /// Prove each blob, and return which are not what they should be. No more memory is taken than their digests say.
    pub fn prove<'a>(&mut self, message: &'a [u8]) -> Vec<(usize, Told<'a>, Wrong)> {
        let mut wrong = Vec::new();
        for (number, row) in self.rows.iter_mut().enumerate() {
            match row.prove(message) {
                Ok(()) => row.is_good = true,
                Err(found) => {
                    wrong.push((number, Told::of(&message[row.told.clone()]).unwrap_or_default(), found));
                }
            }
        }
        wrong
    }

    /// Records of those that were proved and are not here yet, and where in them each blob lies.
    pub fn records(&self, message: &[u8], here: Here<'_>) -> (Vec<u8>, Vec<(Digest, usize)>) {
        let (mut out, mut places) = (Vec::with_capacity(message.len()), Vec::new());
        let mut seen = HashSet::new();
        for row in self.rows.iter().filter(|row| row.is_good) {
            if let Some(digest) = row.digest.filter(|digest| !here.has(digest) && seen.insert(*digest)) {
                record(&mut out, BLOB, &digest.sha256, row.plain(message));
                places.push((digest, out.len() - row.plain(message).len()));
            }
        }
        (out, places)
    }

    /// `BatchUpdateBlobsResponse`: each is stored, but for those that have a status, a message by itself.
    pub fn answer(&self, message: &[u8], statuses: &BTreeMap<usize, Vec<u8>>) -> Vec<u8> {
        let (mut out, mut response) = (Vec::with_capacity(self.rows.len() * 80), Vec::new());
        for (number, row) in self.rows.iter().enumerate() {
            response.clear();
            put_bytes(&mut response, 1, &message[row.told.clone()]);
            if let Some(status) = statuses.get(&number) {
                put_bytes(&mut response, 2, status);
            }
            put_bytes(&mut out, 1, &response);
        }
        out
    }
}

impl Row {
    fn of(message: &[u8], request: &[u8]) -> Option<Row> {
        let (mut told, mut data, mut compressor) = (&request[..0], &request[..0], IDENTITY);
        for field in Fields(request) {
            match field? {
                (1, Value::Bytes(digest)) => told = digest,
                (2, Value::Bytes(bytes)) => data = bytes,
                (3, Value::Number(number)) => compressor = number,
                _ => {}
            }
        }
        let named = Told::of(told)?;
        let (told, data) = (range_of(message, told), range_of(message, data));
        let digest = named.digest();
        Some(Row { told, size: named.size, data, compressor, digest, plain: None, is_good: false })
    }

    fn plain<'a>(&'a self, message: &'a [u8]) -> &'a [u8] {
        self.plain.as_deref().unwrap_or_else(|| &message[self.data.clone()])
    }

    fn prove(&mut self, message: &[u8]) -> Result<(), Wrong> {
        let digest = self.digest.ok_or(Wrong::Digest)?;
        match self.compressor {
            IDENTITY => {}
            ZSTD => self.plain = Some(expanded(&message[self.data.clone()], digest.size)?),
            other => return Err(Wrong::Compressor(other)),
        }
        let plain = self.plain(message);
        if plain.len() as u64 != digest.size {
            return Err(Wrong::Content(format!("{} bytes came", plain.len())));
        }
        let found = Digest::of(plain);
        if found != digest {
            return Err(Wrong::Content(format!("what came hashes to {}", found.short())));
        }
        Ok(())
    }
}

fn expanded(bytes: &[u8], size: u64) -> Result<Vec<u8>, Wrong> {
    let not_whole = || Wrong::Content("what came is no whole zstd stream of that size".to_owned());
    let mut expand = Expand::default();
    expand.feed(bytes);
    // One byte more tells that there is more.
    let most = usize::try_from(size).ok().and_then(|size| size.checked_add(1)).ok_or_else(not_whole)?;
    let plain = expand.take(most).map_err(|error| Wrong::Content(error.to_string()))?;
    if expand.is_whole() { Ok(plain) } else { Err(not_whole()) }
}

impl Staged {
    /// Know where the blobs of records lie that were put into a file at `begin`.
    pub fn put_records(&self, file: u32, begin: u64, places: &[(Digest, usize)]) {
        let place =
            |(digest, at): &(Digest, usize)| (digest.sha256, Place { file, at: begin + *at as u64, size: digest.size });
        self.put(places.iter().map(place));
    }
}
