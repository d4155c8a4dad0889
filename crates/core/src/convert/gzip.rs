//! Gzip members end to end, and zeros after them, with which tapes are filled.
//!
//! Invariant: a member is given to its end only if its sum and its length are right. All members share one decoder: there may be
//! a million of them, of a kilobyte each. Bytes: RFC 1952.

use std::io::{self, BufRead, Read};

use flate2::{Decompress, FlushDecompress, Status};

/// Bits of the flags: a sum of the header, an extra field, a name, a comment.
const SUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

pub struct Members<R> {
    input: R,
    decoder: Decompress,
    crc: crc32fast::Hasher,
    length: u32,
    within: bool,
    ended: bool,
}

fn damaged(found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, found)
}

impl<R: BufRead> Members<R> {
    pub fn new(input: R) -> Members<R> {
        let (decoder, crc) = (Decompress::new(false), crc32fast::Hasher::new());
        Members { input, decoder, crc, length: 0, within: false, ended: false }
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn begin(&mut self) -> io::Result<()> {
        let [first, second, method, flags, ..] = self.bytes::<10>()?;
        if (first, second, method) != (0x1f, 0x8b, 8) {
            return Err(damaged("there is no gzip member"));
        }
        if flags & EXTRA != 0 {
            let length = u64::from(u16::from_le_bytes(self.bytes()?));
            if io::copy(&mut (&mut self.input).take(length), &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        for text in [NAME, COMMENT] {
            while flags & text != 0 && self.bytes::<1>()? != [0] {}
        }
        if flags & SUM != 0 {
            self.bytes::<2>()?;
        }
        self.decoder.reset(false);
        (self.crc, self.length, self.within) = (crc32fast::Hasher::new(), 0, true);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let sum = u32::from_le_bytes(self.bytes()?);
        let length = u32::from_le_bytes(self.bytes()?);
        self.within = false;
        if sum != std::mem::take(&mut self.crc).finalize() || length != self.length {
            return Err(damaged("the sum of a gzip member is not that of its bytes"));
        }
        Ok(())
    }

    /// Nothing but zeros may follow.
    fn zeros(&mut self) -> io::Result<()> {
        let mut zeros = [0; 4096];
        loop {
            match self.input.read(&mut zeros)? {
                0 => return Ok(()),
                got if zeros[..got].iter().all(|&byte| byte == 0) => {}
                _ => return Err(damaged("what follows the gzip data is none")),
            }
        }
    }

    /// The next bytes, and whether a member ended behind them; 0 and none at the end.
    ///
    /// # Errors
    /// `InvalidData` and `UnexpectedEof` of damage, and those of the input.
    pub fn next(&mut self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        if self.ended || buffer.is_empty() {
            return Ok((0, false));
        }
        if !self.within {
            match self.input.fill_buf()?.first() {
                Some(0x1f) => self.begin()?,
                Some(_) => self.zeros()?,
                None => {}
            }
            if !self.within {
                self.ended = true;
                return Ok((0, false));
            }
        }
        loop {
            let bytes = self.input.fill_buf()?;
            let at_end = bytes.is_empty();
            let (passed, made) = (self.decoder.total_in(), self.decoder.total_out());
            let status = self.decoder.decompress(bytes, buffer, FlushDecompress::None);
            let status = status.map_err(|_| damaged("a gzip member is no deflate stream"))?;
            self.input.consume((self.decoder.total_in() - passed) as usize);
            let made = (self.decoder.total_out() - made) as usize;
            self.crc.update(&buffer[..made]);
            self.length = self.length.wrapping_add(made as u32);
            if status == Status::StreamEnd {
                self.end()?;
                return Ok((made, true));
            }
            if made > 0 {
                return Ok((made, false));
            }
            if at_end {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its last gzip member is cut"));
            }
        }
    }

    pub fn input(&self) -> &R {
        &self.input
    }
}
