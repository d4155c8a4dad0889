//! A tar stream of any form into an archive.
//!
//! Invariant: the archive has each name once, as it was when all of the stream was unpacked, in the order of the stream.
//! The stream is read twice, because what remains of it is known at its end only. Bytes: docs/archive.md.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::open::TOC_NAME;
use super::write::{Options, Written, write};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::tar::{Header, Kind, Reader, TreeBuilder};

const BUFFER: usize = 256 << 10;

/// First bytes of what is decompressed here,
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// and of what is not.
const OTHERS: [(&[u8], &str); 2] = [(&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"), (b"BZh", "bzip2")];

/// Write the archive of a tar stream, plain or compressed by gzip or zstd. `open` gives it from its beginning, twice; `what`
/// names it in messages.
///
/// # Errors
/// `Damaged` when it is no tar, or says what cannot be; `Invalid` when it is compressed otherwise; those of `write` and `open`.
pub fn convert<R: Read + Send>(
    what: &str,
    open: impl FnMut() -> Result<R>,
    options: &Options,
    job: &Job,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Written> {
    let written = read_and_write(what, open, options, job, sink);
    if written.is_err() {
        // Not the stream failed, then.
        job.step(0)?;
    }
    written
}

fn read_and_write<R: Read + Send>(
    what: &str,
    mut open: impl FnMut() -> Result<R>,
    options: &Options,
    job: &Job,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Written> {
    let mut stream = || -> Result<Stream<'_>> {
        let watched = Watched { from: open()?, job };
        Ok(Stream { reader: Reader::new(what, plain(what, watched)?), read: 0, header: None })
    };
    let mut first = stream()?;
    let mut builder = TreeBuilder::new(what);
    while first.advance()? {
        builder.push(first.header()?)?;
    }
    let tree = builder.finish()?;
    let mut second = stream()?;
    let links = tree.entries.iter().filter(|placed| placed.first.is_some());
    // The headers of files with several names: they come before those.
    let mut linked: HashMap<u32, Option<Header>> = links.map(|placed| (placed.entry, None)).collect();
    write(options, job, sink, |writer| {
        for placed in &tree.entries {
            if let Some(first) = placed.first {
                let kept = linked.get(&placed.entry).cloned().flatten().ok_or_else(|| changed(what))?;
                let first = tree.entries[first as usize].name.clone();
                // The attributes are the file's, and stand with it.
                let (name, xattrs) = (placed.name.clone(), Vec::new());
                let header = Header { name, kind: Kind::HardLink { first }, xattrs, ..kept };
                writer.entry(&header, &mut io::empty())?;
                continue;
            }
            while second.read <= placed.entry {
                if !second.advance()? {
                    return Err(changed(what));
                }
            }
            let header = Header { name: placed.name.clone(), ..second.header()?.clone() };
            if let Some(kept) = linked.get_mut(&placed.entry) {
                *kept = Some(header.clone());
            }
            let mut content = second.reader.content();
            writer.entry(&header, &mut content).map_err(|error| content.blame(error))?;
        }
        Ok(())
    })
}

fn changed(what: &str) -> Error {
    Error::damaged(what, "it was another when it was read again")
}

/// The entries of a tar stream but for a TOC's, counted.
struct Stream<'a> {
    reader: Reader<Box<dyn Read + Send + 'a>>,
    read: u32,
    header: Option<Header>,
}

impl Stream<'_> {
    /// Go to the next entry; false when there is none.
    fn advance(&mut self) -> Result<bool> {
        loop {
            self.header = self.reader.next_entry()?;
            match &self.header {
                None => return Ok(false),
                // What was an archive before gets a TOC of its own.
                Some(header) if header.name == TOC_NAME => {}
                Some(_) => {
                    self.read = self.read.saturating_add(1);
                    return Ok(true);
                }
            }
        }
    }

    fn header(&self) -> Result<&Header> {
        self.header.as_ref().ok_or_else(|| Error::damaged("tar", "it has no such entry"))
    }
}

/// Bytes that stop coming when the job is stopped.
struct Watched<'a, R> {
    from: R,
    job: &'a Job,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.job.step(0).map_err(|_| io::Error::other("stopped"))?;
        self.from.read(out)
    }
}

/// The stream without its compression.
fn plain<'a>(what: &str, from: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    let start = from.fill_buf().map_err(Error::io("read", what))?;
    if let Some((_, word)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(Error::Invalid {
            what: what.into(),
            why: format!("it is compressed by {word}; decompress it first"),
        });
    }
    Ok(match start {
        start if start.starts_with(GZIP) => {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(from))) as Box<dyn Read + Send + 'a>
        }
        start if start.starts_with(ZSTD) => {
            Box::new(zstd::stream::read::Decoder::with_buffer(from).map_err(Error::io("read", what))?)
        }
        _ => Box::new(from),
    })
}
