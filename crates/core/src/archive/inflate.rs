//! Deflate that can be left and entered at blocks, and within them at codes: what a checkpoint needs of a decoder.
//!
//! Invariant: the state belongs to one `Inflater` and is never moved; only slices that live through a call are handed over.
//! Why this library: docs/decisions/0015. Bytes: docs/archive.md, "Seek index".

use std::mem::MaybeUninit;

use libz_rs_sys as z;

/// What a checkpoint keeps of the plain bytes before it: no match of deflate reaches further back.
pub const WINDOW: usize = 32 << 10;

/// A deflate stream, bare or in a gzip member, on its way through.
pub struct Inflater {
    stream: Box<z::z_stream>,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub read: usize,
    pub written: usize,
    pub at: At,
}

/// Where a call stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Anywhere: input or room for output has ended.
    Within,
    /// Where a block begins; so many bits of what was read, the last ones, are not used yet.
    Block { unused: u8 },
    /// Where a code begins, within a block.
    Code { unused: u8 },
    /// Behind the end, checksums proved.
    End,
}

const GZIP: i32 = 31;
const BARE: i32 = -15;

impl Inflater {
    /// At the beginning of a gzip member.
    pub fn member() -> Inflater {
        Inflater::new(GZIP)
    }

    /// In the middle of a stream, at a block whose first `count` bits are `bits`; `window` are the plain bytes before it.
    ///
    /// # Errors
    /// When `count` is above 7 or `window` too long.
    pub fn resumed(bits: u8, count: u8, window: &[u8]) -> Result<Inflater, &'static str> {
        Inflater::resumed_within(bits, count, window, &[], 0)
    }

    /// The same within a block, at one of its codes; the block has the head that is the first `head_bits` of `head`.
    ///
    /// # Errors
    /// As `resumed`, and when that is no head.
    pub fn resumed_within(
        bits: u8,
        count: u8,
        window: &[u8],
        head: &[u8],
        head_bits: u16,
    ) -> Result<Inflater, &'static str> {
        const WRONG: &str = "its checkpoint cannot be";
        let (whole, rest) = (usize::from(head_bits / 8), (head_bits % 8) as u8);
        if count > 7 || window.len() > WINDOW || head.len() != usize::from(head_bits.div_ceil(8)) {
            return Err(WRONG);
        }
        let mut out = Inflater::new(BARE);
        if head_bits > 0 {
            let step = out.run(&head[..whole], &mut [0], z::Z_NO_FLUSH)?;
            out.prime(rest, head.get(whole).copied().unwrap_or(0)).ok_or(WRONG)?;
            let end = out.run(&[], &mut [0], z::Z_NO_FLUSH)?;
            // A head that has ended too early has begun to give something; of another nothing is left over.
            if step.read != whole || step.written + end.written > 0 || out.unused() > 0 {
                return Err(WRONG);
            }
        }
        out.prime(count, bits).ok_or(WRONG)?;
        if !window.is_empty() {
            // SAFETY: the stream is initialised, and `window` is as long as is said.
            let code = unsafe { z::inflateSetDictionary(&mut *out.stream, window.as_ptr(), window.len() as z::uInt) };
            if code != z::Z_OK {
                return Err(WRONG);
            }
        }
        Ok(out)
    }

    /// Put `count` bits, at most 7, before what is read next.
    fn prime(&mut self, count: u8, bits: u8) -> Option<()> {
        // SAFETY: the stream is initialised.
        let code = unsafe { z::inflatePrime(&mut *self.stream, count.into(), bits.into()) };
        (code == z::Z_OK).then_some(())
    }

    fn new(window_bits: i32) -> Inflater {
        // SAFETY: zlib takes a stream of zeros: no input, no output, its own allocator.
        let mut stream: Box<z::z_stream> = Box::new(unsafe { MaybeUninit::zeroed().assume_init() });
        // SAFETY: the version and size are those of the library that is linked.
        let code =
            unsafe { z::inflateInit2_(&mut *stream, window_bits, z::zlibVersion(), size_of::<z::z_stream>() as i32) };
        assert!(code == z::Z_OK, "zlib has memory for a state");
        Inflater { stream }
    }

    /// Begin the next member.
    pub fn restart(&mut self) {
        // SAFETY: the stream is initialised.
        let code = unsafe { z::inflateReset(&mut *self.stream) };
        debug_assert_eq!(code, z::Z_OK);
    }

    /// Decompress from `input` to `output`, with `to_block` to the next block's beginning at most.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub fn step(&mut self, input: &[u8], output: &mut [u8], to_block: bool) -> Result<Step, &'static str> {
        self.run(input, output, if to_block { z::Z_BLOCK } else { z::Z_NO_FLUSH })
    }

    fn run(&mut self, input: &[u8], output: &mut [u8], flush: i32) -> Result<Step, &'static str> {
        let most = |length: usize| length.min(1 << 30) as z::uInt;
        let (input_length, output_length) = (most(input.len()), most(output.len()));
        let stream = &mut *self.stream;
        stream.next_in = input.as_ptr().cast_mut();
        stream.avail_in = input_length;
        stream.next_out = output.as_mut_ptr();
        stream.avail_out = output_length;
        // SAFETY: both slices live until the call returns, and are as long as is said; zlib does not write to its input.
        let code = unsafe { z::inflate(stream, flush) };
        let read = (input_length - stream.avail_in) as usize;
        let written = (output_length - stream.avail_out) as usize;
        let state = stream.data_type;
        let at = match code {
            z::Z_STREAM_END => At::End,
            // Bit 7: right behind a block; bit 6: that was the last.
            z::Z_OK | z::Z_BUF_ERROR if flush == z::Z_BLOCK && state & 0xc0 == 0x80 => {
                At::Block { unused: (state & 0x3f) as u8 }
            }
            z::Z_OK | z::Z_BUF_ERROR => At::Within,
            z::Z_MEM_ERROR => return Err("there is no memory to decompress it"),
            _ => return Err("it is no deflate stream, or was damaged"),
        };
        Ok(Step { read, written, at })
    }

    /// How many bits of what was read are not used yet.
    pub fn unused(&self) -> u8 {
        (self.stream.data_type & 0x3f) as u8
    }

    /// After a step that has written, and stopped within a block: whether that has codes.
    pub fn is_in_codes(&self) -> bool {
        // Bits 7 and 8: between blocks; before the first code, or in a block without any.
        self.stream.data_type & 0x180 == 0
    }

    /// Decompress one byte, bit by bit, in a block with codes; say where the first code begins after one that ends in it.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub fn step_to_code(&mut self, byte: u8, output: &mut [u8]) -> Result<Step, &'static str> {
        let mut written = 0;
        let mut at = At::Within;
        for left in (0..8).rev() {
            self.prime(1, byte >> (7 - left)).ok_or("it cannot be read bit by bit")?;
            let step = self.run(&[], &mut output[written..], z::Z_BLOCK)?;
            written += step.written;
            // SAFETY: the stream is initialised.
            let mark = unsafe { z::inflateMark(&*self.stream) };
            at = match step.at {
                At::Block { unused } => At::Block { unused: unused + left },
                // No bit of the next one is there. (What else the mark says is wrong behind a distance.)
                At::Within if self.is_in_codes() && mark == 0 && self.unused() == 0 => At::Code { unused: left },
                at => at,
            };
            // Behind the last block the rest of its byte is passed over, so that has to be there.
            if at != At::Within || self.stream.data_type & 0x80 != 0 || written == output.len() {
                self.prime(left, (u16::from(byte) >> (8 - left)) as u8).ok_or("it cannot be read bit by bit")?;
                break;
            }
        }
        Ok(Step { read: 1, written, at })
    }

    /// The last plain bytes of this stream, at most `WINDOW`.
    pub fn window(&mut self) -> Vec<u8> {
        let mut out = vec![0; WINDOW];
        let mut length = 0;
        // SAFETY: there is room for the largest window.
        let code = unsafe { z::inflateGetDictionary(&*self.stream, out.as_mut_ptr(), &mut length) };
        debug_assert_eq!(code, z::Z_OK);
        out.truncate(length as usize);
        out
    }
}

/// How many bits the head of the block has that begins at a bit of `bytes`; `None` of one without codes, or when `bytes` have
/// not all of it.
pub fn head_bits(bytes: &[u8], bit: u8) -> Option<u16> {
    let (count, input) = match bytes {
        [_, rest @ ..] if bit > 0 => (8 - bit, rest),
        _ => (0, bytes),
    };
    let mut inflater = Inflater::new(BARE);
    inflater.prime(count, bytes.first()? >> bit)?;
    let step = inflater.run(input, &mut [0], z::Z_TREES).ok()?;
    // Bit 8: a block with codes has begun.
    let is_read = inflater.stream.data_type & 0x100 != 0;
    let bits = usize::from(count) + 8 * step.read - usize::from(inflater.unused());
    u16::try_from(bits).ok().filter(|_| is_read)
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: the stream is initialised, and nobody uses it any more.
        unsafe { z::inflateEnd(&mut *self.stream) };
    }
}

// SAFETY: the stream's pointers are to memory that it owns, or are set anew by each call.
unsafe impl Send for Inflater {}
