//! A whole pack read and proved: its name, its TOC, every frame and every chunk.
//!
//! Invariant: what is called sound has been decompressed and hashed; nothing is believed because the TOC says so.

use std::collections::BTreeMap;
use std::ops::Range;

use zstd::zstd_safe;

use super::frame;
use super::{Lying, Toc};
use crate::digest::{Digest, hex};
use crate::job::Job;

/// What a pack was found to hold.
#[derive(Debug, Default)]
pub struct Proved {
    /// Every chunk whose bytes hash to its name, in the order of the pack.
    pub sound: Vec<Lying>,
    /// What it says of itself, if that can be read.
    pub toc: Option<Toc>,
    /// What is wrong, one line each; none of a pack that is whole.
    pub faults: Vec<String>,
}

/// Read the pack that is named `name`. A frame that cannot be read costs only its own chunks as long as the TOC, or one of
/// `frames` (offset, length, plain length, as file maps say), tells where the next begins.
///
/// # Errors
/// `Stopped`.
pub fn prove(name: &[u8; 32], bytes: &[u8], frames: &[(u32, u32, u32)], job: &Job) -> crate::error::Result<Proved> {
    let mut out = Proved::default();
    let got = Digest::of(bytes).sha256;
    if got != *name {
        out.faults.push(format!("its bytes hash to {}", &hex(&got)[..12]));
    }
    let mut known: BTreeMap<u32, (u32, u32)> =
        frames.iter().map(|&(at, length, plain)| (at, (length, plain))).collect();
    match Toc::of(bytes) {
        Ok(toc) => out.toc = Some(toc),
        Err(error) => out.faults.push(error.to_string()),
    }
    let told = out.toc.as_ref().map(Toc::frames).unwrap_or_default();
    if !out.faults.is_empty() {
        // The TOC may be what is damaged: it is only asked where frames might begin.
        walk(bytes, told.iter().map(|frame| frame.0), &mut known);
    }
    for (at, length, plain) in told {
        known.entry(at).or_insert((length, plain));
    }
    for (offset, (length, plain)) in known {
        job.step(u64::from(length))?;
        open(bytes, offset, length, plain, &mut out);
    }
    if let Some(toc) = &out.toc {
        // A frame that was not read has been named already; here the pack holds something else than its TOC says.
        let sound: Vec<(u32, u32, Digest)> = out.sound.iter().map(|l| (l.offset, l.inner, l.digest)).collect();
        let lost = toc.entries.iter().find(|entry| {
            let lying = &entry.lying;
            sound.binary_search(&(lying.offset, lying.inner, lying.digest)).is_err()
        });
        if let Some(entry) = lost.filter(|_| out.faults.is_empty()) {
            out.faults.push(format!("chunk {} is not where its TOC says", entry.lying.digest.short()));
        }
    }
    Ok(out)
}

/// Find frames that nobody names, from each place where one may begin.
fn walk(bytes: &[u8], starts: impl Iterator<Item = u32>, known: &mut BTreeMap<u32, (u32, u32)>) {
    let starts: Vec<u32> = starts.chain(known.keys().copied()).chain([0]).collect();
    for start in starts {
        let mut at = start as usize;
        while let Some((range, plain)) = next_frame(bytes, at) {
            if at != start as usize && known.contains_key(&(at as u32)) {
                break;
            }
            known.entry(at as u32).or_insert((range.len() as u32, plain));
            at = range.end;
        }
    }
}

fn next_frame(bytes: &[u8], at: usize) -> Option<(Range<usize>, u32)> {
    let rest = bytes.get(at..)?;
    let plain = zstd_safe::get_frame_content_size(rest).ok()??;
    let plain = u32::try_from(plain).ok()?;
    let length = zstd_safe::find_frame_compressed_size(rest).ok()?;
    let is_end = plain == 1024 && frame::open(&rest[..length], plain).is_ok_and(|plain| plain.iter().all(|&b| b == 0));
    (!is_end).then_some((at..at + length, plain))
}

/// Prove the chunks of one frame.
fn open(bytes: &[u8], offset: u32, length: u32, plain: u32, out: &mut Proved) {
    let mut fault = |found: String| out.faults.push(format!("the frame at {offset}: {found}"));
    let start = offset as usize;
    let Some(stored) = start.checked_add(length as usize).and_then(|end| bytes.get(start..end)) else {
        return fault("it lies outside".into());
    };
    let decompressed = match frame::open(stored, plain) {
        Ok(decompressed) => decompressed,
        Err(error) => return fault(error.to_string()),
    };
    let mut end = 0;
    for (sha256, range) in frame::chunks(&decompressed) {
        end = range.end.next_multiple_of(512);
        let digest = Digest { sha256, size: range.len() as u64 };
        let got = Digest::of(&decompressed[range.clone()]);
        if got == digest {
            let inner = range.start as u32;
            out.sound.push(Lying { digest, offset, length, plain, inner });
        } else {
            fault(format!("chunk {} hashes to {}", digest.short(), got.short()));
        }
    }
    if end != decompressed.len() {
        fault("its tar ends early".into());
    }
}
