//! CRC-64 as ISO 3309 has it, by which tar-split knows contents.

const POLYNOMIAL: u64 = 0xd800_0000_0000_0000;

/// `TABLES[0]` takes one byte further, the others as many bytes more as their number.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u64, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][at] = crc;
        at += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut at = 0;
        while at < 256 {
            let crc: u64 = tables[table - 1][at];
            tables[table][at] = tables[0][(crc & 0xff) as usize] ^ crc >> 8;
            at += 1;
        }
        table += 1;
    }
    tables
}

/// The sum of the bytes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crc(u64);

impl Crc {
    pub fn update(&mut self, bytes: &[u8]) {
        let mut crc = !self.0;
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mixed = crc ^ u64::from_le_bytes(word.try_into().expect("a chunk has eight bytes"));
            let byte = |at: usize| TABLES[7 - at][(mixed >> (8 * at) & 0xff) as usize];
            crc = byte(0) ^ byte(1) ^ byte(2) ^ byte(3) ^ byte(4) ^ byte(5) ^ byte(6) ^ byte(7);
        }
        for &byte in words.remainder() {
            crc = TABLES[0][((crc ^ u64::from(byte)) & 0xff) as usize] ^ crc >> 8;
        }
        self.0 = !crc;
    }

    pub fn value(&self) -> u64 {
        self.0
    }
}
