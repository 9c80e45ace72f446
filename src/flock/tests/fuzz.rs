//! Seeded mutations of the example: the loader never panics and never writes.

use super::*;

/// xorshift: the same sequence in every run.
struct Random(u32);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % bound
    }
}

const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\u",
    b",",
    b":",
    b"null",
    b"-1e999",
    b"\"\\ud800\"",
    b"\0",
    b"\xff",
    b" ",
];

fn mutate(random: &mut Random) -> Vec<u8> {
    let mut bytes = EXAMPLE.as_bytes().to_vec();
    for _ in 0..=random.below(6) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let end = (at + random.below(40)).min(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            3 => drop(bytes.drain(at..end)),
            _ => {
                let part = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, part));
            }
        }
    }
    bytes
}

#[test]
fn mutated_files_are_loaded_or_refused_and_never_written() {
    let mut random = Random(0x5eed);
    let dir = Scratch::new();
    let path = dir.join("device.flock");
    let mut loaded = 0;
    for round in 0..3000 {
        let bytes = mutate(&mut random);
        fs::write(&path, &bytes).unwrap();
        let outcome = load(&path, dir.path());
        assert_eq!(fs::read(&path).unwrap(), bytes, "round {round}");
        assert_eq!(dir.names(), ["device.flock"], "round {round}");
        if outcome.is_ok() {
            loaded += 1;
            let rendered = Document::parse(&bytes).unwrap().render();
            let again = Document::parse(&rendered).unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(again.render(), rendered, "round {round}: writing is idempotent");
        }
    }
    assert!(loaded > 100, "the mutations are too coarse: only {loaded} could be read");
}
