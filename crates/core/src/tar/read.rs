//! Reading a stream, entry after entry.
//!
//! Invariant: memory is bounded by what one entry's headers may have (`MAX_HEADERS`), whatever they announce; each byte of the
//! stream is either content, given by `read`, or one of the raw bytes, given by `take_raw` and `rest`.

use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::PathBuf;

use super::block::BLOCK;
use super::crc::Crc;
use super::entry::{Said, header_of, is_right};
use super::map::layout_of;
use super::name::{MAX_NAME, shown};
use super::sparse::Layout;
use super::{Header, Kind, padding};
use crate::error::{Error, Result};

/// The most that one pax header may have.
pub const MAX_PAX: u64 = 16 << 20;
/// The most that may stand before the content of one entry.
pub const MAX_HEADERS: u64 = 64 << 20;
/// What global headers may say that is kept.
pub const MAX_GLOBAL: usize = 64 << 10;

const BUFFER: usize = 128 << 10;
/// Of a reader that jumps: a header or two.
const SMALL_BUFFER: usize = 4 << 10;

/// Passes over so many bytes.
type Jump<R> = fn(&mut BufReader<R>, i64) -> io::Result<()>;

/// Reads the entries of a tar stream that is decompressed already.
pub struct Reader<R> {
    what: String,
    input: BufReader<R>,
    /// Of an input that can be entered anywhere: contents that nobody asks for are not read.
    jump: Option<Jump<R>>,
    /// Bytes of the stream so far.
    at: u64,
    globals: super::records::Records,
    /// The entry that was given last: its name as it stands in the stream, and where its header begins.
    name: Vec<u8>,
    begins: u64,
    /// Bytes of headers since the content before.
    headers: u64,
    layout: Layout,
    /// Where in the content the next byte is, and in which run of the layout or before which.
    place: u64,
    run: usize,
    /// Content in the stream that was not read yet, and zeros after it.
    left: u64,
    padding: usize,
    stored: u64,
    raw: Option<Vec<u8>>,
    /// Only the headers of one entry are kept.
    headers_only: bool,
    has_globals: bool,
    crc: Crc,
    ended: bool,
    begins_wrong: bool,
}

impl<R: Read> Reader<R> {
    /// `what` names the stream in messages.
    pub fn new(what: impl Into<String>, input: R) -> Reader<R> {
        Reader {
            what: what.into(),
            input: BufReader::with_capacity(BUFFER, input),
            jump: None,
            at: 0,
            globals: super::records::Records::default(),
            name: Vec::new(),
            begins: 0,
            headers: 0,
            layout: Layout::default(),
            place: 0,
            run: 0,
            left: 0,
            padding: 0,
            stored: 0,
            raw: None,
            headers_only: false,
            has_globals: false,
            crc: Crc::default(),
            ended: false,
            begins_wrong: false,
        }
    }

    /// The same, with every byte kept that is no content, until `take_raw`.
    pub fn keeping_raw(what: impl Into<String>, input: R) -> Reader<R> {
        Reader { raw: Some(Vec::new()), ..Reader::new(what, input) }
    }

    /// The same, with the headers of the entry that was given last kept, until `take_raw`.
    pub fn keeping_headers(what: impl Into<String>, input: R) -> Reader<R> {
        Reader { headers_only: true, ..Reader::keeping_raw(what, input) }
    }

    /// One that jumps over contents that nobody reads.
    pub fn jumping(what: impl Into<String>, input: R) -> Reader<R>
    where
        R: Seek,
    {
        let reader = Reader::new(what, input);
        let input = BufReader::with_capacity(SMALL_BUFFER, reader.input.into_inner());
        Reader { input, jump: Some(BufReader::seek_relative), ..reader }
    }

    /// The next entry; what was not read of the content before is passed over. `None` after the last.
    ///
    /// # Errors
    /// `Damaged`, naming the entry and the byte of the stream; `Io`.
    pub fn next_entry(&mut self) -> Result<Option<Header>> {
        self.skip_content()?;
        self.headers = 0;
        let padding = std::mem::take(&mut self.padding);
        self.take(padding as u64)?;
        if self.headers_only {
            self.take_raw();
        }
        self.name.clear();
        self.layout = Layout::default();
        (self.place, self.run, self.stored) = (0, 0, 0);
        if self.ended {
            return Ok(None);
        }
        let mut said = Said::default();
        loop {
            self.begins = self.at;
            let Some(block) = self.block()?.filter(|block| block.iter().any(|&byte| byte != 0)) else {
                self.ended = true;
                if said.is_anything() {
                    return Err(self.damaged("it ends after a header that announced an entry"));
                }
                // The second block of zeros; where it is missing, whatever stands there is not looked at.
                self.block()?;
                return Ok(None);
            };
            if !is_right(&block) {
                self.begins_wrong = self.begins == 0;
                return Err(self.damaged("there is no header: its checksum is wrong"));
            }
            if let Some(header) = self.heed(&block, &mut said)? {
                return Ok(Some(header));
            }
        }
    }

    /// The entry of a header block; `None` when more must be read.
    fn heed(&mut self, block: &[u8; BLOCK], said: &mut Said) -> Result<Option<Header>> {
        match block[super::block::FLAG] {
            b'x' | b'X' => {
                let text = self.extension(block, MAX_PAX)?;
                // A second one takes the place of the first.
                let records = said.records.insert(self.globals.clone());
                records.read(&text).map_err(|e| self.damaged(&e))?;
            }
            b'g' => {
                let text = self.extension(block, MAX_PAX)?;
                let mut globals = std::mem::take(&mut self.globals);
                globals.read(&text).map_err(|e| self.damaged(&e))?;
                globals.sparse = Default::default();
                if globals.weight() > MAX_GLOBAL {
                    return Err(self.damaged("its global headers say more than 64 KiB"));
                }
                self.globals = globals;
                self.has_globals = true;
            }
            b'L' => said.name = Some(self.long_name(block)?),
            b'K' => said.link = Some(self.long_name(block)?),
            // A volume's label, and an access control list of Solaris, whose form no other kernel has.
            b'V' | b'A' => {
                self.extension(block, MAX_HEADERS)?;
            }
            b'M' => return Err(self.damaged("it continues a file of another volume")),
            b'N' => return Err(self.damaged("it has names in a form that was given up in 1991")),
            _ => return self.entry(block, std::mem::take(said)).map(Some),
        }
        Ok(None)
    }

    fn entry(&mut self, block: &[u8; BLOCK], mut said: Said) -> Result<Header> {
        if said.records.is_none() {
            said.records = Some(self.globals.clone());
        }
        self.name = said.raw_name(block);
        let mut header = header_of(block, &mut said, &self.name).map_err(|e| self.damaged(&e))?;
        if let Kind::Regular { size, holes } = &mut header.kind {
            let stored = *size;
            self.layout = layout_of(self, block, &mut said, stored)?;
            (*size, *holes) = (self.layout.size, self.layout.holes());
            // The map of format 1.0 stands where the content does, and counts as such.
            let map = said.map_bytes;
            self.stored = stored - map;
            self.left = self.stored;
            self.padding = padding(self.stored);
        } else if block[super::block::FLAG] == b'D' {
            // What the directory had when GNU tar made an incremental backup.
            self.extension(block, MAX_HEADERS)?;
        }
        self.crc = Crc::default();
        Ok(header)
    }

    /// The next bytes of the content, holes as zeros; 0 at its end.
    ///
    /// # Errors
    /// `Damaged` when the stream ends too early; `Io`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (start, length) = self.layout.data.get(self.run).copied().unwrap_or((self.layout.size, 0));
        let fits = |until: u64| usize::try_from(until).unwrap_or(usize::MAX).min(buffer.len());
        if self.place < start {
            let count = fits(start - self.place);
            buffer[..count].fill(0);
            self.place += count as u64;
            return Ok(count);
        }
        let count = fits(start + length - self.place);
        if count == 0 {
            return Ok(0);
        }
        let count = self.some(&mut buffer[..count])?;
        if count == 0 {
            return Err(self.damaged("the stream ends within its content"));
        }
        if self.raw.is_some() && !self.headers_only {
            self.crc.update(&buffer[..count]);
        }
        self.left -= count as u64;
        self.place += count as u64;
        if self.place == start + length {
            self.run += 1;
        }
        Ok(count)
    }

    /// Pass over what was not read of the content.
    ///
    /// # Errors
    /// As `read`.
    pub fn skip_content(&mut self) -> Result<()> {
        // Of a content the last byte is read: where the stream ends before it, that is seen.
        if let (Some(jump), Some(by @ 1..)) = (self.jump, self.left.checked_sub(1)) {
            let by = i64::try_from(by).unwrap_or(i64::MAX);
            jump(&mut self.input, by).map_err(|error| self.io(error))?;
            self.at += by as u64;
            self.left -= by as u64;
        }
        while self.left > 0 {
            let (at, keep) = (self.at, self.raw.is_some() && !self.headers_only);
            let got = match self.input.fill_buf() {
                Ok(bytes) => {
                    let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                    if keep {
                        self.crc.update(&bytes[..count]);
                    }
                    count
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.io(e)),
            };
            if got == 0 {
                return Err(self.damaged("the stream ends within its content"));
            }
            self.input.consume(got);
            self.left -= got as u64;
            self.at = at + got as u64;
        }
        (self.place, self.run) = (self.layout.size, self.layout.data.len());
        Ok(())
    }

    /// Where in the stream we are; after `next_entry` that is where the entry's content begins, if it has any.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether what was read first is no header: then it is no tar.
    pub fn begins_wrong(&self) -> bool {
        self.begins_wrong
    }

    /// The name of the entry as it stands in the stream.
    pub fn raw_name(&self) -> &[u8] {
        &self.name
    }

    /// Whether a header before may say something of this entry.
    pub fn has_globals(&self) -> bool {
        self.has_globals
    }

    /// Of a reader that keeps raw bytes: how many bytes of the entry's content the stream has, and their CRC-64 once all
    /// were read.
    pub fn stored(&self) -> (u64, u64) {
        (self.stored, self.crc.value())
    }

    /// The bytes since the last call that are no content.
    pub fn take_raw(&mut self) -> Vec<u8> {
        self.raw.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// After the last entry: bytes that follow the end of the tar; 0 when there are no more.
    ///
    /// # Errors
    /// `Io`, and `Damaged` when the stream cannot be decompressed.
    pub fn rest(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.ended { self.some(buffer) } else { Ok(0) }
    }

    fn long_name(&mut self, block: &[u8; BLOCK]) -> Result<Vec<u8>> {
        let mut name = self.extension(block, MAX_NAME as u64 + 1)?;
        name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    /// What follows a header that is no entry of its own.
    fn extension(&mut self, block: &[u8; BLOCK], most: u64) -> Result<Vec<u8>> {
        let size = super::number::field(&block[super::block::SIZE]).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| self.damaged("its size is no number that can be"))?;
        if size > most {
            return Err(self.damaged("a header has more bytes than are allowed"));
        }
        let body = self.take(size)?;
        self.take(padding(size) as u64)?;
        Ok(body)
    }

    pub(super) fn needed_block(&mut self) -> Result<[u8; BLOCK]> {
        self.block()?.ok_or_else(|| self.damaged("the stream ends within a header"))
    }

    /// 512 bytes, or `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut out = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.some(&mut out[filled..])? {
                0 if filled == 0 => return Ok(None),
                // Whatever is left after one block of zeros is not looked at.
                0 if self.ended => break,
                0 => return Err(self.damaged("the stream ends within a header")),
                count => filled += count,
            }
        }
        self.count_header(filled as u64)?;
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(&out[..filled]);
        }
        Ok(Some(out))
    }

    /// Exactly so many bytes that are no content.
    fn take(&mut self, size: u64) -> Result<Vec<u8>> {
        self.count_header(size)?;
        let mut out = Vec::new();
        // Grows with what comes, not with what was announced.
        let got = (&mut self.input).take(size).read_to_end(&mut out);
        self.at += out.len() as u64;
        got.map_err(|e| self.io(e))?;
        if (out.len() as u64) < size {
            return Err(self.damaged("the stream ends within a header or the zeros after a content"));
        }
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(&out);
        }
        Ok(out)
    }

    fn count_header(&mut self, bytes: u64) -> Result<()> {
        self.headers += bytes;
        if self.headers > MAX_HEADERS { Err(self.damaged("an entry has more than 64 MiB of headers")) } else { Ok(()) }
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.input.read(buffer) {
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.io(e)),
            }
        }
    }

    pub(super) fn damaged(&self, found: &str) -> Error {
        let place = format!("at byte {} of the tar", self.begins);
        let entry = if self.name.is_empty() { place } else { format!("{} {place}", shown(&self.name)) };
        Error::damaged(self.what.clone(), format!("{entry}: {found}"))
    }

    /// What a decompressor refuses is damage of the stream.
    fn io(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => self.damaged(&source.to_string()),
            _ => Error::Io { doing: "read", path: PathBuf::from(&self.what), source },
        }
    }
}
