//! The generator: xorshift numbers, mutations of golden files, slicings of a stream, JSON of all kinds.

use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// A reproducible sequence (xorshift, 64 bits).
pub(crate) struct Random(u64);

impl Random {
    /// Neighbouring seeds give unrelated sequences.
    pub(crate) fn new(seed: u32) -> Random {
        let mut random = Random(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 11) % bound as u64) as usize
    }

    /// True once in `of` times.
    pub(crate) fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// Text of up to `most` characters, some of them awkward.
    pub(crate) fn text(&mut self, most: usize) -> String {
        const ODD: &[char] = &['"', '\\', '\0', '\n', '\r', '\u{1b}', '\u{7f}', 'ä', '€', '😀', '\u{feff}', '\u{2028}'];
        (0..self.below(most + 1))
            .map(|_| if self.once_in(4) { ODD[self.below(ODD.len())] } else { (32 + self.below(95) as u8) as char })
            .collect()
    }

    /// A number as JSON knows them, the limits of all types among them.
    pub(crate) fn number(&mut self) -> Value {
        match self.below(8) {
            0 => json!(self.next()),
            1 => json!(self.next() as i64),
            2 => json!(self.next() as f64 / 8.0),
            3 => json!(f64::from(self.next() as i32) / 8.0),
            4 => json!(f64::from_bits(self.next())), // null if it is none
            5 => json!([0, 1, u64::MAX, 1 << 53, (1 << 53) + 1, i64::MAX as u64][self.below(6)]),
            6 => json!([-0.0, 1e300, 5.0, 0.5, 9_007_199_254_740_992.0, 1e19, -1.0][self.below(7)]),
            _ => json!(self.below(10)),
        }
    }

    /// Any JSON value, at most so deep.
    pub(crate) fn json(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.once_in(2)),
            2 => self.number(),
            3 => json!(self.below(100).to_string()),
            4 => json!(self.text(12)),
            5 => (0..self.below(4)).map(|_| self.json(depth - 1)).collect(),
            _ => Value::Object(self.map(depth - 1)),
        }
    }

    /// An object with a few members.
    pub(crate) fn map(&mut self, depth: usize) -> Map<String, Value> {
        (0..self.below(4)).map(|_| (self.text(6), self.json(depth))).collect()
    }

    /// `bytes` with some changes: flipped bits, other bytes, cut out, doubled, cut off, or continued by one of `others`.
    pub(crate) fn mutate(&mut self, bytes: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(5) {
            if bytes.is_empty() {
                return self.bytes(8);
            }
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(24)).min(bytes.len());
            match self.below(8) {
                0 | 1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes[at] = self.next() as u8,
                3 => {
                    let count = 1 + self.below(4);
                    let piece = self.bytes(count);
                    drop(bytes.splice(at..at, piece));
                }
                4 => drop(bytes.drain(at..end)),
                5 => {
                    let part = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, part));
                }
                6 if !others.is_empty() => {
                    let other = &others[self.below(others.len())];
                    let from = self.below(other.len().max(1));
                    bytes.truncate(at);
                    bytes.extend_from_slice(other.get(from..).unwrap_or_default());
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    }

    /// `bytes` in pieces, from single bytes to everything, empty ones among them.
    pub(crate) fn slices<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let longest = 1 + self.below(bytes.len() + 1).min(1 << self.below(14));
        let mut slices = Vec::new();
        while !bytes.is_empty() {
            let (slice, rest) = bytes.split_at(self.below(longest + 1).min(bytes.len()));
            slices.push(slice);
            bytes = rest;
        }
        slices
    }
}

/// The files of a folder below `tests/golden`, in the order of their names.
pub(crate) fn golden(folder: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.into_iter().map(|path| std::fs::read(path).expect("golden files can be read")).collect()
}
