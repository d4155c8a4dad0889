//! Holes of files in an archive that is converted: its tar has zeros in their place, and its TOC says where they were.
//!
//! Invariant: what the TOC says is a hint, which `are_zeros` proves; a TOC that cannot be read has none, and those kept are bounded
//! by `MOST`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::footer::Footer;
use super::open::read_toc;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::tar::Reader;

/// The most bytes of holes that are kept; those of files behind these are zeros.
const MOST: usize = 16 << 20;
const EACH: usize = 16;

/// `(offset, length)` of each hole of a file, in order.
type Of = Vec<(u64, u64)>;

/// By name, with the size that the file is to have.
#[derive(Default)]
pub struct Holes(HashMap<Vec<u8>, (u64, Of)>);

impl Holes {
    /// Those of the archive `file`, whose footer this is.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn of(file: &File, footer: &Footer, job: &Job) -> Result<Holes> {
        let (mut holes, mut room) = (HashMap::new(), MOST);
        let Some(toc) = &footer.toc else { return Ok(Holes::default()) };
        let length = toc.at.end - toc.at.start;
        let compressed = At { file, at: toc.at.start }.take(length);
        let read = read_toc(footer, compressed, length, job, |entry| {
            let weight = entry.name.len() + EACH * entry.holes.len();
            if !entry.holes.is_empty() && weight <= room && is_right(entry.size, &entry.holes) {
                room -= weight;
                holes.insert(entry.name, (entry.size, entry.holes));
            }
            Ok(())
        });
        match read {
            Err(Error::Stopped) => Err(Error::Stopped),
            // The archive is read without it.
            Err(_) => Ok(Holes::default()),
            Ok(_) => Ok(Holes(holes)),
        }
    }

    /// What is said of a file of that name and size.
    pub fn get(&self, name: &[u8], size: u64) -> Option<&Of> {
        self.0.get(name).filter(|said| said.0 == size).map(|said| &said.1)
    }
}

fn is_right(size: u64, holes: &[(u64, u64)]) -> bool {
    let mut end = 0;
    holes.iter().all(|&(offset, length)| {
        let is_behind = offset >= end && length > 0;
        end = offset.saturating_add(length);
        is_behind && end <= size
    })
}

/// Whether the content that a reader is at has zeros in these places; it is read up to the last of them, or to what is none.
///
/// # Errors
/// Those of the reader.
pub fn are_zeros<R: Read>(reader: &mut Reader<R>, holes: &[(u64, u64)], job: &Job) -> Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    for &(offset, length) in holes {
        while at < offset + length {
            job.step(0)?;
            let until = if at < offset { offset } else { offset + length };
            let most = usize::try_from(until - at).unwrap_or(usize::MAX).min(buffer.len());
            let got = reader.read(&mut buffer[..most])?;
            if got == 0 || at >= offset && buffer[..got].iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += got as u64;
        }
    }
    Ok(true)
}

/// Bytes of a file from a place on.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(out, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}
