//! The model disk of archives that arrive.

use crate::domain::job::{Outcome, Piece, Upload};
use crate::domain::names;
use std::collections::BTreeMap;

/// Files by name.
#[derive(Debug, Default)]
pub(in crate::domain) struct Archives(pub BTreeMap<String, Vec<u8>>);

/// The piece in a word.
pub(in crate::domain) fn name(upload: &Upload) -> String {
    let word = match &upload.piece {
        Piece::Begin { total } => format!("begin {total}"),
        Piece::Data { hex, offset } => format!("{} at {offset}", hex.len() / 2),
        Piece::End { length } => format!("end {length}"),
        Piece::Discard => "discard".to_owned(),
    };
    format!("upload {word} {}", upload.file)
}

impl Archives {
    /// Does what the worker does.
    pub fn take(&mut self, upload: &Upload) -> Outcome {
        let part = names::part_file(&upload.file, upload.transfer);
        let length = self.0.get(&part).map(|bytes| bytes.len() as u64);
        match &upload.piece {
            Piece::Begin { .. } => {
                self.0.retain(|name, _| names::whole_of_part(name) != Some(&upload.file));
                self.0.insert(part, Vec::new());
            }
            Piece::Data { hex, offset } => match (self.0.get_mut(&part), bytes(hex)) {
                (Some(file), Some(bytes)) if length == Some(*offset) => file.extend(bytes),
                _ => return Outcome::Failed("not hexadecimal, or in the wrong place".to_owned()),
            },
            Piece::End { length: expected } => match self.0.remove(&part) {
                Some(file) if length == Some(*expected) => drop(self.0.insert(upload.file.clone(), file)),
                _ => return Outcome::Failed("not whole".to_owned()),
            },
            Piece::Discard => drop(self.0.remove(&part)),
        }
        Outcome::Done
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair.filter(|pair| pair.len() == 2)?, 16).ok()).collect()
}
