//! SHA-256 and size: the name of everything.
//!
//! Invariant: a `Digest` is only ever made by hashing bytes or by parsing a stored one; equal digests mean equal bytes.
//! Not here: where bytes lie (`archive`), what a directory's bytes are (`directory`).

mod twin;

use std::fmt;

use sha2::Digest as _;
pub use twin::Twin;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    pub sha256: [u8; 32],
    pub size: u64,
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest { sha256: sha2::Sha256::digest(bytes).into(), size: bytes.len() as u64 }
    }

    /// 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        hex(&self.sha256)
    }

    /// Enough of it for a message.
    pub fn short(&self) -> String {
        hex(&self.sha256[..6])
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}/{}", self.hex(), self.size)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)] as char);
        out.push(DIGITS[usize::from(b & 15)] as char);
    }
    out
}

/// The 32 bytes of 64 lower-case hex digits; `None` for anything else.
pub fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    // No digit is more than 15: a bit above that in any place tells of one that is none.
    let mut seen = 0;
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
        seen |= high | low;
        *byte = high << 4 | low & 15;
    }
    (seen < 16).then_some(out)
}

/// What each character is as a lower-case hex digit; 255 for what is none.
const NIBBLES: [u8; 256] = {
    let mut out = [255; 256];
    let mut value = 0;
    while value < 16 {
        out[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    out
};

/// SHA-256 taken piece by piece.
#[derive(Default)]
pub struct Hasher {
    state: sha2::Sha256,
    size: u64,
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub fn finish(self) -> Digest {
        Digest { sha256: self.state.finalize().into(), size: self.size }
    }
}
