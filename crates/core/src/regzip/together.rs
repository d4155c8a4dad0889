//! From plain bytes and corrections to the gzip stream that they were.

use std::io::{self, BufReader, Cursor, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use preflate_rs::RecreateStreamProcessor;

use super::{FIRST, KEPT, MAGIC, MOST_BELIEVED, MOST_CORRECTIONS, NEXT, RAW};
use crate::error::{Error, Result};
use crate::job::Job;

/// Write the gzip stream of `plain` that `corrections` say to `output`. That it is the right one is for the caller to prove.
///
/// # Errors
/// `Damaged` of what is called `what`, `NewerFormat`, `Io`, `Stopped`.
pub fn together(
    what: &str,
    plain: impl Read,
    corrections: impl Read,
    output: &mut impl Write,
    job: &Job,
) -> Result<()> {
    let done = records(plain, &mut BufReader::new(corrections), output, job);
    job.step(0)?;
    done.map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => Error::NewerFormat { what: what.into(), version: u64::from(MAGIC[7]) + 1 },
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Error::damaged(what, error.to_string()),
        _ => Error::io("put together", what)(error),
    })
}

fn records(mut plain: impl Read, said: &mut impl Read, out: &mut impl Write, job: &Job) -> io::Result<()> {
    let mut magic = [0; MAGIC.len()];
    said.read_exact(&mut magic)?;
    if magic[..7] != MAGIC[..7] {
        return Err(wrong("they are no corrections"));
    }
    if magic[7] > MAGIC[7] {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut processor: Option<RecreateStreamProcessor> = None;
    let mut kind = [0];
    while said.read(&mut kind)? != 0 {
        job.step(0).map_err(io::Error::other)?;
        let size = if kind[0] == RAW { 0 } else { number(said, MOST_BELIEVED)? };
        let length = number(said, MOST_CORRECTIONS)?;
        let bytes = exactly(said, length)?;
        match kind[0] {
            RAW => out.write_all(&bytes)?,
            KEPT => {
                exactly(&mut plain, size)?;
                out.write_all(&bytes)?;
            }
            FIRST | NEXT => {
                let text = exactly(&mut plain, size)?;
                if kind[0] == FIRST {
                    processor = Some(RecreateStreamProcessor::new());
                }
                let Some(processor) = processor.as_mut() else {
                    return Err(wrong("a stream goes on that did not begin"));
                };
                // Corrections come from a store, which may hold anything.
                let made =
                    catch_unwind(AssertUnwindSafe(|| processor.recompress(&mut Cursor::new(text.as_slice()), &bytes)));
                match made {
                    Ok(Ok((made, _))) => out.write_all(&made)?,
                    _ => return Err(wrong("its corrections are not those of its plain bytes")),
                }
                job.bytes_done.fetch_add(text.len() as u64, std::sync::atomic::Ordering::Relaxed);
            }
            _ => return Err(wrong("a record of no kind that there is")),
        }
    }
    if plain.read(&mut [0])? != 0 {
        return Err(wrong("they are of fewer plain bytes than there are"));
    }
    Ok(())
}

fn number(said: &mut impl Read, most: u32) -> io::Result<u32> {
    let mut bytes = [0; 4];
    said.read_exact(&mut bytes)?;
    let number = u32::from_le_bytes(bytes);
    if number > most { Err(wrong("a record that is too large")) } else { Ok(number) }
}

/// So many bytes; memory is taken as they come.
fn exactly(from: &mut impl Read, count: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(count.into()).read_to_end(&mut bytes)?;
    if bytes.len() < count as usize { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

fn wrong(found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, found)
}
