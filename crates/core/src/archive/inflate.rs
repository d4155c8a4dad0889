//! Deflate that can be left and entered at blocks: what a checkpoint needs of a decoder.
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
        if count > 7 || window.len() > WINDOW {
            return Err("its checkpoint cannot be");
        }
        let mut out = Inflater::new(BARE);
        // SAFETY: `new` has initialised the stream, and `window` is as long as is said.
        let code = unsafe {
            let stream: *mut z::z_stream = &mut *out.stream;
            match z::inflatePrime(stream, count.into(), bits.into()) {
                z::Z_OK if !window.is_empty() => {
                    z::inflateSetDictionary(stream, window.as_ptr(), window.len() as z::uInt)
                }
                code => code,
            }
        };
        if code == z::Z_OK { Ok(out) } else { Err("its checkpoint cannot be") }
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
        let most = |length: usize| length.min(1 << 30) as z::uInt;
        let (input_length, output_length) = (most(input.len()), most(output.len()));
        let stream = &mut *self.stream;
        stream.next_in = input.as_ptr().cast_mut();
        stream.avail_in = input_length;
        stream.next_out = output.as_mut_ptr();
        stream.avail_out = output_length;
        // SAFETY: both slices live until the call returns, and are as long as is said; zlib does not write to its input.
        let code = unsafe { z::inflate(stream, if to_block { z::Z_BLOCK } else { z::Z_NO_FLUSH }) };
        let read = (input_length - stream.avail_in) as usize;
        let written = (output_length - stream.avail_out) as usize;
        let state = stream.data_type;
        let at = match code {
            z::Z_STREAM_END => At::End,
            // Bit 7: right behind a block; bit 6: that was the last.
            z::Z_OK | z::Z_BUF_ERROR if to_block && state & 0xc0 == 0x80 => At::Block { unused: (state & 0x3f) as u8 },
            z::Z_OK | z::Z_BUF_ERROR => At::Within,
            z::Z_MEM_ERROR => return Err("there is no memory to decompress it"),
            _ => return Err("it is no deflate stream, or was damaged"),
        };
        Ok(Step { read, written, at })
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

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: the stream is initialised, and nobody uses it any more.
        unsafe { z::inflateEnd(&mut *self.stream) };
    }
}

// SAFETY: the stream's pointers are to memory that it owns, or are set anew by each call.
unsafe impl Send for Inflater {}
