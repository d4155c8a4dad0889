//! The plain stream of an archive, decompressed by a thread of its own, with the places where it can be entered.
//!
//! Invariant: what is given out is the stream from its beginning without gap, and a checkpoint comes before the plain bytes
//! behind it; the thread ends when nobody takes from it any more. Checksums of members and frames are proved.

use std::fs::File;
use std::io::{self, Read};
use std::slice;

use crossbeam_channel::{Receiver, Sender, bounded};
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, get_error_name};

use super::{FORCED, GAP, SPACING, Stream};
use crate::archive::inflate::{At, Inflater, head_bits};
use crate::archive::lead::LONGEST_HEAD;
use crate::job::Job;

/// Plain bytes that are handed over at once, how many such blocks lie ready, and compressed bytes that are read at once.
const BLOCK: usize = 512 << 10;
const READY: usize = 4;
const READ: usize = 256 << 10;

/// What comes out of the thread.
pub enum Part {
    Plain(Vec<u8>),
    /// `window`: the plain bytes before a block, or before a code of one, whose head stands behind them and has so many bits;
    /// `None` where a member or frame begins.
    Point {
        at: u64,
        bit: u8,
        plain: u64,
        window: Option<Vec<u8>>,
        head: u16,
    },
    /// It was decompressed to its end.
    End,
    /// Too much lies between two places where it can be entered.
    Closed,
    Failed(io::Error),
}

/// Decompresses `input` for whoever takes the parts; gives back blocks that were read.
pub struct Source<'a> {
    input: &'a File,
    job: &'a Job,
    parts: Sender<Part>,
    used: Receiver<Vec<u8>>,
    /// Compressed bytes in hand, and where in the archive they end.
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
    end: u64,
    /// The block that is being filled.
    block: Vec<u8>,
    length: usize,
    /// Plain bytes so far, and up to the last checkpoint.
    plain: u64,
    last: Option<u64>,
}

/// The first byte of a gzip member.
const MEMBER: u8 = 0x1f;

/// Why the thread ends before the stream does.
enum Ended {
    Failed(io::Error),
    Closed,
    /// Nobody takes from it any more.
    Left,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Failed(error)
    }
}

fn damaged(found: &str) -> Ended {
    Ended::Failed(io::Error::new(io::ErrorKind::InvalidData, found))
}

/// The two ends: what the thread runs, and what reads from it.
pub fn stream<'a>(input: &'a File, job: &'a Job) -> (Source<'a>, Receiver<Part>, Sender<Vec<u8>>) {
    let (parts, arriving) = bounded(READY);
    let (give_back, used) = bounded(READY + 2);
    let (buffer, block) = (vec![0; READ], vec![0; BLOCK]);
    let source =
        Source { input, job, parts, used, buffer, at: 0, filled: 0, end: 0, block, length: 0, plain: 0, last: None };
    (source, arriving, give_back)
}

impl Source<'_> {
    /// Run to the end of the input, from its beginning.
    pub fn run(mut self, stream: Stream) {
        let run = match stream {
            Stream::Gzip => self.gzip(),
            _ => self.zstd(),
        };
        // What came before the damage, too: the entry in which it lies is known by it.
        let rest = self.hand_over();
        let last = match run.and(rest) {
            Ok(()) => Part::End,
            Err(Ended::Failed(error)) => Part::Failed(error),
            Err(Ended::Closed) => Part::Closed,
            Err(Ended::Left) => return,
        };
        let _ = self.parts.send(last);
    }

    fn gzip(&mut self) -> Result<(), Ended> {
        let mut inflater = Inflater::member();
        let (mut head, mut is_in_codes) = (BlockHead::default(), false);
        self.point(self.position(), 0, None)?;
        loop {
            let is_due = self.is_due()?;
            let is_overdue = self.left_of(FORCED) == 0;
            let room = if is_overdue { BLOCK - self.length } else { self.room(is_due) };
            let (input, output) =
                (&self.buffer[self.at..self.filled], &mut self.block[self.length..self.length + room]);
            let step = match input {
                &[byte, ..] if is_overdue && is_in_codes => inflater.step_to_code(byte, output),
                // Little, if it may be the last of the block.
                [byte, ..] if is_overdue => inflater.step(slice::from_ref(byte), output, true),
                _ => inflater.step(input, output, true),
            };
            let step = step.map_err(damaged)?;
            head.pass(&self.buffer[self.at..self.at + step.read]);
            self.at += step.read;
            self.wrote(step.written)?;
            is_in_codes = inflater.is_in_codes() && (is_in_codes || step.written > 0);
            match step.at {
                At::Block { unused } => {
                    head.begin(unused);
                    if is_due {
                        self.point_at_bit(unused, inflater.window(), 0)?;
                    }
                }
                At::End => {
                    if !self.follows()? {
                        return Ok(());
                    }
                    inflater.restart();
                    (head, is_in_codes) = (BlockHead::default(), false);
                    if self.is_due()? {
                        self.point(self.position(), 0, None)?;
                    }
                }
                At::Within if step.read == 0 && step.written == 0 && !self.fill()? => {
                    return Err(damaged("it ends within a gzip member"));
                }
                At::Code { unused } => {
                    if let Some((bytes, bits)) = head.read() {
                        self.point_at_bit(unused, [inflater.window(), bytes].concat(), bits)?;
                    }
                }
                At::Within => {}
            }
        }
    }

    /// Whether another member follows; zeros, with which tapes are filled, end the stream.
    fn follows(&mut self) -> Result<bool, Ended> {
        if self.at == self.filled && !self.fill()? {
            return Ok(false);
        }
        if self.buffer[self.at] == MEMBER {
            return Ok(true);
        }
        loop {
            if self.buffer[self.at..self.filled].iter().any(|&byte| byte != 0) {
                return Err(damaged("what follows the gzip data is none"));
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    fn zstd(&mut self) -> Result<(), Ended> {
        let wrong = |code| damaged(&format!("zstd: {}", get_error_name(code)));
        let mut decoder = DCtx::create();
        // Between two frames; with more to come out before more goes in.
        let (mut is_between, mut is_full) = (true, false);
        loop {
            if self.at == self.filled && !is_full && !self.fill()? {
                return if is_between { Ok(()) } else { Err(damaged("it ends within a zstd frame")) };
            }
            if is_between && self.is_due()? {
                self.point(self.position(), 0, None)?;
            }
            self.is_due()?;
            let room = BLOCK - self.length;
            let mut input = InBuffer::around(&self.buffer[self.at..self.filled]);
            let mut output = OutBuffer::around(&mut self.block[self.length..self.length + room]);
            let left = decoder.decompress_stream(&mut output, &mut input).map_err(wrong)?;
            let (written, read) = (output.pos(), input.pos());
            self.at += read;
            self.wrote(written)?;
            (is_between, is_full) = (left == 0, left != 0 && written == room);
        }
    }

    /// Where in the archive the next byte is.
    fn position(&self) -> u64 {
        self.end - (self.filled - self.at) as u64
    }

    /// Read more, when all that was read is used; false at the end.
    fn fill(&mut self) -> Result<bool, Ended> {
        self.job.step(0).map_err(io::Error::other)?;
        loop {
            match self.input.read(&mut self.buffer) {
                Ok(count) => {
                    (self.at, self.filled) = (0, count);
                    self.end += count as u64;
                    self.job.step(count as u64).map_err(io::Error::other)?;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Ended::Failed(error)),
            }
        }
    }

    /// Whether a checkpoint is to be set as soon as that can be.
    fn is_due(&self) -> Result<bool, Ended> {
        let gap = self.last.map_or(SPACING, |last| self.plain - last);
        if gap > GAP { Err(Ended::Closed) } else { Ok(gap >= SPACING) }
    }

    /// How much may be written to the block: not beyond where the next checkpoint is due, or has to be.
    fn room(&self, is_due: bool) -> usize {
        (BLOCK - self.length).min(self.left_of(if is_due { FORCED } else { SPACING }) as usize)
    }

    /// How many plain bytes there may be until so many are behind the last checkpoint.
    fn left_of(&self, spacing: u64) -> u64 {
        self.last.map_or(0, |last| (last + spacing).saturating_sub(self.plain))
    }

    fn wrote(&mut self, count: usize) -> Result<(), Ended> {
        self.length += count;
        self.plain += count as u64;
        if self.length == BLOCK { self.hand_over() } else { Ok(()) }
    }

    fn point(&mut self, at: u64, bit: u8, window: Option<(Vec<u8>, u16)>) -> Result<(), Ended> {
        self.last = Some(self.plain);
        let (window, head) = window.map_or((None, 0), |(window, head)| (Some(window), head));
        self.give(Part::Point { at, bit, plain: self.plain, window, head })
    }

    /// A checkpoint so many bits before the next byte.
    fn point_at_bit(&mut self, back: u8, window: Vec<u8>, head: u16) -> Result<(), Ended> {
        let bits = self.position() * 8 - u64::from(back);
        self.point(bits / 8, (bits % 8) as u8, Some((window, head)))
    }

    fn hand_over(&mut self) -> Result<(), Ended> {
        if self.length == 0 {
            return Ok(());
        }
        self.job.step(0).map_err(io::Error::other)?;
        let next = self.used.try_recv().unwrap_or_else(|_| vec![0; BLOCK]);
        let mut block = std::mem::replace(&mut self.block, next);
        self.block.resize(BLOCK, 0);
        block.truncate(std::mem::take(&mut self.length));
        self.give(Part::Plain(block))
    }

    fn give(&self, part: Part) -> Result<(), Ended> {
        self.parts.send(part).map_err(|_| Ended::Left)
    }
}

/// The first bytes of the block that is being decompressed: what says how its codes are spelled.
#[derive(Default)]
struct BlockHead {
    bytes: Vec<u8>,
    /// The bit of the first byte at which it begins; `None` before the first block of a member.
    bit: Option<u8>,
    /// The last bytes that were read: some of their bits may belong to the next block.
    last: Vec<u8>,
}

impl BlockHead {
    /// More than all bits that are read before they are used.
    const LAST: usize = 8;

    /// These were read.
    fn pass(&mut self, read: &[u8]) {
        let room = (usize::from(LONGEST_HEAD / 8) + 2 * Self::LAST).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&read[..read.len().min(room)]);
        self.last.extend_from_slice(&read[read.len().saturating_sub(Self::LAST)..]);
        self.last.drain(..self.last.len().saturating_sub(Self::LAST));
    }

    /// A block begins, so many bits before the next byte.
    fn begin(&mut self, unused: u8) {
        let bytes = usize::from(unused.div_ceil(8)).min(self.last.len());
        self.bytes.clear();
        self.bytes.extend_from_slice(&self.last[self.last.len() - bytes..]);
        self.bit = Some((8 - unused % 8) % 8);
    }

    /// The head, from the lowest bit of a byte on, and how many bits it has; `None` of a block without codes.
    fn read(&self) -> Option<(Vec<u8>, u16)> {
        let bit = self.bit?;
        let bits = head_bits(&self.bytes, bit)?;
        let at = |byte: usize| u16::from(self.bytes.get(byte).copied().unwrap_or(0));
        let moved = |byte: usize| ((at(byte) | at(byte + 1) << 8) >> bit) as u8;
        Some(((0..usize::from(bits.div_ceil(8))).map(moved).collect(), bits))
    }
}
