//! The targets of cargo-fuzz without cargo-fuzz: every case that was kept, and a few thousand made of them.
//!
//! Invariant: the cases made are the same on every run.

#![allow(clippy::unwrap_used, reason = "all of it is test code, also the helpers")]

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");

/// Made of each target's: more take cargo-fuzz.
const CASES: usize = 1500;

/// The cases of a target, by name.
fn cases(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut out: Vec<_> = std::fs::read_dir(Path::new(CORPUS).join(target))
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    out.sort();
    assert!(!out.is_empty());
    out
}

/// Run a target; say which case it was that it did not stand.
fn stands(target: &str, run: targets::Target, name: &str, case: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| run(case)) {
        let path = std::env::temp_dir().join(format!("sapwood-fuzz-{target}"));
        std::fs::write(&path, case).unwrap();
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        panic!("{target} does not stand what was made of {name}, now in {}: {}", path.display(), said.unwrap_or("?"));
    }
}

#[test]
fn every_case_that_was_kept_is_stood() {
    for (target, run) in targets::TARGETS {
        for (name, case) in cases(target) {
            stands(target, run, &name, &case);
        }
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

/// Change a case in one of the ways that find most.
fn change(random: &mut Random, case: &mut Vec<u8>, others: &[(String, Vec<u8>)]) {
    let at = random.below(case.len());
    let until = at + random.below((case.len() - at).min(600) + 1);
    match random.below(7) {
        0 | 1 if !case.is_empty() => case[at] ^= 1 << random.below(8),
        2 if !case.is_empty() => case[at] = *b"\0\xff\x7f\x800179/.,\"{[\n".get(random.below(16)).unwrap_or(&0),
        3 => case.truncate(at),
        4 => drop(case.drain(at..until)),
        5 => {
            let copy = case[at..until].to_vec();
            let to = random.below(case.len() + 1);
            case.splice(to..to, copy);
        }
        _ => {
            let other = &others[random.below(others.len())].1;
            let from = random.below(other.len());
            case.truncate(at);
            case.extend_from_slice(&other[from..]);
        }
    }
}

#[test]
fn cases_made_of_those_are_stood() {
    for (target, run) in targets::TARGETS {
        let known = cases(target);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..CASES {
            let (name, case) = &known[random.below(known.len())];
            let mut case = case.clone();
            for _ in 0..=random.below(4) {
                change(&mut random, &mut case, &known);
            }
            stands(target, run, name, &case);
        }
    }
}
