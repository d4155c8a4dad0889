//! SHA-256 of a stream and of runs within it, for hardly more than that of the stream alone.
//!
//! Invariant: the digests are those of `Hasher`, whatever the processor and however the bytes arrive. Where a run begins with a
//! block of the stream, both have the same schedule, which is made once, and the rounds of one fill the time in which those of the
//! other wait for each other.

use super::{Digest, Hasher};

/// A stream that is hashed, and runs of it.
pub struct Twin(With);

enum With {
    #[cfg(target_arch = "x86_64")]
    Instructions(Box<blocks::Stream>),
    Library(Hasher),
}

impl Default for Twin {
    fn default() -> Twin {
        #[cfg(target_arch = "x86_64")]
        if Twin::is_quick() {
            return Twin(With::Instructions(Box::default()));
        }
        Twin(With::Library(Hasher::default()))
    }
}

impl Twin {
    /// Whether the processor hashes a run with the stream for hardly more; else a run costs as much as the stream.
    #[cfg(target_arch = "x86_64")]
    pub fn is_quick() -> bool {
        is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_quick() -> bool {
        false
    }

    /// The next bytes of the stream.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            #[cfg(target_arch = "x86_64")]
            With::Instructions(stream) => stream.update(bytes),
            With::Library(hasher) => hasher.update(bytes),
        }
    }

    /// The next bytes of the stream, which are a run: the SHA-256 of these alone.
    pub fn update_run(&mut self, bytes: &[u8]) -> [u8; 32] {
        match &mut self.0 {
            #[cfg(target_arch = "x86_64")]
            With::Instructions(stream) => stream.update_run(bytes),
            With::Library(hasher) => {
                hasher.update(bytes);
                Digest::of(bytes).sha256
            }
        }
    }

    pub fn finish(self) -> Digest {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            With::Instructions(stream) => stream.finish(),
            With::Library(hasher) => hasher.finish(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod blocks {
    use core::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_set_epi8, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32,
        _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::Digest;

    const BLOCK: usize = 64;

    /// The eight words as the instructions want them: f, e, b, a and h, g, d, c.
    type State = [[u32; 4]; 2];

    const BEGINNING: State =
        [[0x9b05_688c, 0x510e_527f, 0xbb67_ae85, 0x6a09_e667], [0x5be0_cd19, 0x1f83_d9ab, 0xa54f_f53a, 0x3c6e_f372]];

    /// FIPS 180-4, 4.2.2.
    const ROUNDS: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    pub struct Stream {
        state: State,
        /// What has come of a block.
        tail: [u8; BLOCK],
        size: u64,
    }

    impl Default for Stream {
        fn default() -> Stream {
            Stream { state: BEGINNING, tail: [0; BLOCK], size: 0 }
        }
    }

    impl Stream {
        pub fn update(&mut self, mut bytes: &[u8]) {
            let have = (self.size % BLOCK as u64) as usize;
            self.size += bytes.len() as u64;
            if have > 0 {
                let (first, rest) = bytes.split_at(bytes.len().min(BLOCK - have));
                self.tail[have..have + first.len()].copy_from_slice(first);
                if have + first.len() < BLOCK {
                    return;
                }
                let mut states = [self.state];
                compress(&mut states, &[self.tail]);
                [self.state] = states;
                bytes = rest;
            }
            let (blocks, rest) = bytes.as_chunks::<BLOCK>();
            let mut states = [self.state];
            compress(&mut states, blocks);
            [self.state] = states;
            self.tail[..rest.len()].copy_from_slice(rest);
        }

        pub fn update_run(&mut self, bytes: &[u8]) -> [u8; 32] {
            if !self.size.is_multiple_of(BLOCK as u64) {
                self.update(bytes);
                return Digest::of(bytes).sha256;
            }
            let (blocks, rest) = bytes.as_chunks::<BLOCK>();
            let mut states = [self.state, BEGINNING];
            compress(&mut states, blocks);
            let run;
            [self.state, run] = states;
            self.tail[..rest.len()].copy_from_slice(rest);
            self.size += bytes.len() as u64;
            finish(run, rest, bytes.len() as u64)
        }

        pub fn finish(self) -> Digest {
            let have = (self.size % BLOCK as u64) as usize;
            Digest { sha256: finish(self.state, &self.tail[..have], self.size), size: self.size }
        }
    }

    /// The digest, `rest` being what has come of the last block.
    fn finish(state: State, rest: &[u8], size: u64) -> [u8; 32] {
        let mut end = [[0; BLOCK]; 2];
        let blocks = if rest.len() < BLOCK - 8 { 1 } else { 2 };
        let bytes = &mut end.as_flattened_mut()[..blocks * BLOCK];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()] = 0x80;
        let at = bytes.len() - 8;
        bytes[at..].copy_from_slice(&(size * 8).to_be_bytes());
        let mut states = [state];
        compress(&mut states, &end[..blocks]);
        let [[[f, e, b, a], [h, g, d, c]]] = states;
        let mut out = [0; 32];
        for (out, word) in out.chunks_exact_mut(4).zip([a, b, c, d, e, f, g, h]) {
            out.copy_from_slice(&word.to_be_bytes());
        }
        out
    }

    fn compress<const N: usize>(states: &mut [State; N], blocks: &[[u8; BLOCK]]) {
        // SAFETY: there is a `Stream` only where `Twin::is_quick` has found these instructions.
        unsafe { compress_with_instructions(states, blocks) }
    }

    /// The same blocks into each state.
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn compress_with_instructions<const N: usize>(states: &mut [State; N], blocks: &[[u8; BLOCK]]) {
        let order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
        let mut now = states.map(|state| state.map(bytemuck::cast::<[u32; 4], __m128i>));
        for block in blocks {
            let before = now;
            let mut words: [__m128i; 4] = bytemuck::pod_read_unaligned(block);
            for four in &mut words {
                *four = _mm_shuffle_epi8(*four, order);
            }
            for (group, constants) in ROUNDS.into_iter().enumerate() {
                let [oldest, older, old, last] = words;
                let sum = _mm_add_epi32(oldest, bytemuck::cast(constants));
                let high = _mm_shuffle_epi32(sum, 0x0e);
                for [first, second] in &mut now {
                    *second = _mm_sha256rnds2_epu32(*second, *first, sum);
                    *first = _mm_sha256rnds2_epu32(*first, *second, high);
                }
                let mut next = oldest;
                if group < 12 {
                    let far = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, older), _mm_alignr_epi8(last, old, 4));
                    next = _mm_sha256msg2_epu32(far, last);
                }
                words = [older, old, last, next];
            }
            for (now, before) in now.as_flattened_mut().iter_mut().zip(before.as_flattened()) {
                *now = _mm_add_epi32(*now, *before);
            }
        }
        *states = now.map(|state| state.map(bytemuck::cast));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_and_its_runs_have_the_digests_that_they_have_alone() {
        let bytes: Vec<u8> = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let sizes = [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 512, 1000, 4096, 5000];
        // Runs at blocks of the stream and off them, one after another and with bytes between.
        for between in [0, 1, 64, 100] {
            let (mut twin, mut at) = (Twin::default(), 0);
            for size in sizes {
                let run = &bytes[at..at + size];
                assert_eq!(twin.update_run(run), Digest::of(run).sha256, "{size} bytes behind {at}");
                twin.update(&bytes[at + size..at + size + between]);
                at += size + between;
            }
            assert_eq!(twin.finish(), Digest::of(&bytes[..at]));
        }
    }
}
