//! The table of packs and frames at the head of a page and of a fence index.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::FrameAt;

/// A frame as a row of the table: pack number, offset, length, plain length.
pub type Row = (u32, u64, u32, u32);

/// Numbers frames, and the packs they lie in, in order of first use.
#[derive(Default)]
pub struct FrameTable {
    packs: HashMap<Arc<[u8; 32]>, u32>,
    numbers: HashMap<FrameAt, u32>,
    pub pack_order: Vec<Arc<[u8; 32]>>,
    pub frame_order: Vec<Row>,
}

impl FrameTable {
    pub fn number(&mut self, frame: &FrameAt) -> u32 {
        if let Some(&number) = self.numbers.get(frame) {
            return number;
        }
        let pack = *self.packs.entry(frame.pack.clone()).or_insert_with(|| {
            self.pack_order.push(frame.pack.clone());
            self.pack_order.len() as u32 - 1
        });
        let number = self.frame_order.len() as u32;
        self.frame_order.push((pack, frame.offset, frame.length, frame.plain));
        self.numbers.insert(frame.clone(), number);
        number
    }

    pub fn row(&mut self, frame: &FrameAt) -> Row {
        let number = self.number(frame);
        self.frame_order[number as usize]
    }
}
