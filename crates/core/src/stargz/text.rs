//! The bytes of a TOC's text, value by value, as they come.
//!
//! Invariant: never more in memory than the value that is looked at, and that at most `LONGEST_VALUE`.

use std::io::Read;

use crate::error::{Error, Result};

/// No entry is longer: a path and a link of 1 MiB in escapes, and attributes.
const LONGEST_VALUE: usize = 64 << 20;
const STEP: usize = 256 << 10;

pub struct Text<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

fn damaged(found: &str) -> Error {
    Error::damaged("TOC", found)
}

impl<R: Read> Text<R> {
    pub fn new(from: R) -> Text<R> {
        Text { from, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// Bring more bytes behind those that are not used up.
    fn more(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < STEP / 2 {
            if self.buffer.len() >= LONGEST_VALUE {
                return Err(damaged("an entry has more than 64 MiB"));
            }
            self.buffer.resize((2 * self.buffer.len()).max(STEP), 0);
        }
        loop {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(damaged("its text is cut")),
                Ok(read) => break self.end += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(damaged(&e.to_string())),
            }
        }
        Ok(())
    }

    /// The next byte that is no white space; it is not used up.
    pub fn peek(&mut self) -> Result<u8> {
        loop {
            let rest = &self.buffer[self.start..self.end];
            match rest.iter().position(|b| !b.is_ascii_whitespace()) {
                Some(skipped) => {
                    self.start += skipped;
                    return Ok(self.buffer[self.start]);
                }
                None => {
                    self.start = self.end;
                    self.more()?;
                }
            }
        }
    }

    /// Use up the next byte that is no white space if it is `expected`.
    pub fn take(&mut self, expected: u8) -> Result<bool> {
        let found = self.peek()? == expected;
        self.start += usize::from(found);
        Ok(found)
    }

    /// Use up a whole value: where it begins and ends is certain, that it is well formed is not.
    pub fn value(&mut self) -> Result<&[u8]> {
        self.peek()?;
        let mut extent = Extent::default();
        let length = loop {
            match extent.look(&self.buffer[self.start..self.end]) {
                Some(length) => break length,
                None => self.more()?,
            }
        };
        let at = self.start;
        self.start += length;
        Ok(&self.buffer[at..at + length])
    }

    /// Use up what `read` makes of what is in sight, so many bytes; nothing when it gives up.
    pub fn quick<T>(&mut self, read: impl FnOnce(&[u8]) -> Option<(T, usize)>) -> Option<T> {
        let (value, length) = read(&self.buffer[self.start..self.end])?;
        self.start += length;
        Some(value)
    }

    /// Use up everything.
    pub fn drain(&mut self) -> Result<()> {
        self.start = self.end;
        std::io::copy(&mut self.from, &mut std::io::sink()).map_err(|e| damaged(&e.to_string()))?;
        Ok(())
    }

    pub fn into_inner(self) -> R {
        self.from
    }
}

/// How far a value has been followed.
#[derive(Default)]
struct Extent {
    at: usize,
    depth: u32,
    in_string: bool,
}

impl Extent {
    /// The length of the value at the start of `text`, or `None` when its end is not in sight; then look again at more of it.
    fn look(&mut self, text: &[u8]) -> Option<usize> {
        loop {
            if self.in_string {
                match memchr::memchr2(b'"', b'\\', &text[self.at..]) {
                    Some(skipped) if text[self.at + skipped] == b'\\' => {
                        // The byte after it is looked at together with it.
                        if self.at + skipped + 2 > text.len() {
                            self.at += skipped;
                            return None;
                        }
                        self.at += skipped + 2;
                        continue;
                    }
                    Some(skipped) => {
                        self.at += skipped + 1;
                        self.in_string = false;
                        if self.depth == 0 {
                            return Some(self.at);
                        }
                    }
                    None => {
                        self.at = text.len();
                        return None;
                    }
                }
            }
            let byte = *text.get(self.at)?;
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                // A number or a word ends before what follows it.
                b'}' | b']' | b',' | b':' if self.depth == 0 => return Some(self.at),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(self.at + 1);
                    }
                }
                b' ' | b'\t' | b'\n' | b'\r' if self.depth == 0 => return Some(self.at),
                _ => {}
            }
            self.at += 1;
        }
    }
}
