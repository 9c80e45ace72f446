//! The Engine's streams: whatever the bytes are and however they are sliced, the result is that of one piece.

use super::cases;
use super::generator::{Random, golden};
use reagent::docker::http1::{Body, Fault, Head, MAX_HEAD, Method, decode_head};
use reagent::docker::stream::{LineSplitter, LogDecoder, LogLine, MAX_LINE};
use std::collections::VecDeque;

/// Decodes an answer that comes in these slices; the connection ends then.
fn decode(slices: &[&[u8]], of: Method) -> Result<(Head, Vec<u8>), Fault> {
    let (mut seen, mut out) = (Vec::new(), Vec::new());
    let mut open: Option<(Head, Body)> = None;
    for slice in slices {
        if let Some((_, body)) = &mut open {
            body.feed(slice, &mut out)?;
            continue;
        }
        seen.extend_from_slice(slice);
        if let Some((length, head)) = decode_head(&seen)? {
            assert!(length <= MAX_HEAD && length <= seen.len());
            let mut body = head.body(of)?;
            let taken = body.feed(&seen[length..], &mut out)?;
            assert!(taken <= seen.len() - length);
            open = Some((head, body));
        }
    }
    let (head, body) = open.ok_or(Fault::Truncated)?;
    body.end()?;
    Ok((head, out))
}

/// An answer with random chunks and a random end.
fn chunked(random: &mut Random) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..random.below(5) {
        let size = 1 + random.below(300);
        bytes.extend(format!("{size:x}{}\r\n", random.pick(&["", ";a=b", ";"])).bytes());
        bytes.extend(random.bytes(size));
        bytes.extend(b"\r\n");
    }
    bytes.extend(random.pick(&["0\r\n\r\n", "0\r\nA: b\r\n\r\n", "0\r\n", "00\r\n\r\nmore", ""]).bytes());
    bytes
}

#[test]
fn an_answer_decodes_the_same_in_any_slices() {
    let golden = golden("docker");
    let accepted = std::cell::Cell::new(0);
    cases(1500, |random, case| {
        let bytes = match random.below(4) {
            0 => chunked(random),
            1 => {
                let bytes = chunked(random);
                random.mutate(&bytes, &golden)
            }
            2 => {
                let bytes = &golden[random.below(golden.len())];
                random.mutate(bytes, &golden)
            }
            _ => {
                // Long heads, around the limit.
                let line = format!("X: {}\r\n", "y".repeat(random.below(500)));
                format!("HTTP/1.1 200 OK\r\n{}\r\nbody", line.repeat(random.below(120))).into_bytes()
            }
        };
        case.note_bytes(&bytes);
        let of = if random.once_in(8) { Method::Head } else { Method::Get };
        let whole = decode(&[&bytes], of);
        // A head is searched anew with each slice: small ones of a long head would be all that is done here.
        let long = bytes.len() > 4000;
        let slices = if long { bytes.chunks(400 + random.below(5000)).collect() } else { random.slices(&bytes) };
        case.note(slices.iter().map(|slice| slice.len()).collect::<Vec<_>>());
        assert_eq!(decode(&slices, of), whole);
        accepted.set(accepted.get() + u32::from(whole.is_ok()));
    });
    assert!(accepted.get() > 0, "nothing was ever accepted");
}

/// Lines of a log, framed or not, and what became of the stream.
fn lines(slices: &[&[u8]], tty: bool) -> (VecDeque<LogLine>, Result<(), Fault>) {
    let mut decoder = LogDecoder::new(tty);
    let mut lines = VecDeque::new();
    let fed = slices.iter().try_for_each(|slice| decoder.feed(slice, &mut lines));
    let ended = decoder.finish(&mut lines);
    (lines, fed.and(ended))
}

#[test]
fn d4_a_log_stream_gives_the_same_lines_in_any_slices() {
    cases(3000, |random, case| {
        let mut bytes = Vec::new();
        for _ in 0..random.below(12) {
            let mut payload = random.text(40).into_bytes();
            if random.once_in(2) {
                payload.push(b'\n');
            }
            let length = u32::try_from(payload.len()).unwrap();
            bytes.extend([random.below(4) as u8, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend(payload);
        }
        if random.once_in(2) {
            bytes = random.mutate(&bytes, &[]);
        }
        case.note_bytes(&bytes);
        let tty = random.once_in(3);
        let slices = random.slices(&bytes);
        assert_eq!(lines(&slices, tty), lines(&[&bytes], tty));
    });
}

/// What a line splitter is to do, written for reading.
fn reference(bytes: &[u8]) -> Vec<String> {
    let mut pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if pieces.last().is_some_and(|last| last.is_empty()) {
        pieces.pop();
    }
    pieces
        .iter()
        .map(|piece| String::from_utf8_lossy(piece.strip_suffix(b"\r").unwrap_or(piece)).into_owned())
        .collect()
}

fn split(slices: &[&[u8]]) -> Vec<String> {
    let mut splitter = LineSplitter::default();
    let mut lines = Vec::new();
    for slice in slices {
        splitter.feed(slice, |line| lines.push(line));
    }
    splitter.finish(|line| lines.push(line));
    lines
}

#[test]
fn s5_lines_are_those_of_a_slow_reference_in_any_slices() {
    cases(4000, |random, case| {
        let mut bytes = Vec::new();
        for _ in 0..random.below(20) {
            match random.below(4) {
                0 => bytes.extend(random.pick(&["\n", "\r\n", "\r", "\n\n", "\r\r\n"]).bytes()),
                1 => bytes.extend(random.bytes(5)),
                _ => bytes.extend(random.text(20).bytes()),
            }
        }
        case.note_bytes(&bytes);
        let slices = random.slices(&bytes);
        assert_eq!(split(&slices), reference(&bytes));
    });
}

#[test]
fn s5_endless_lines_are_split_the_same_way_in_any_slices_and_lose_nothing() {
    cases(6, |random, case| {
        let length = MAX_LINE - 3 + random.below(8) + random.below(2) * MAX_LINE;
        let mut bytes = random.pick(&["x", "ä", "€", "😀"]).repeat(length).into_bytes();
        bytes.truncate(length);
        bytes.extend(random.pick(&["", "\n", "\r\n", "\r", "\nnext\n"]).bytes());
        case.note(bytes.len());
        let cut = random.below(bytes.len());
        let near = MAX_LINE.min(bytes.len());
        let whole = split(&[&bytes]);
        assert_eq!(split(&[&bytes[..cut], &bytes[cut..]]), whole);
        assert_eq!(split(&[&bytes[..near], &bytes[near..]]), whole);
        assert_eq!(split(&bytes.chunks(1 + random.below(70_000)).collect::<Vec<_>>()), whole);
        assert!(whole.iter().all(|line| line.len() <= MAX_LINE + 9), "a replaced character is longer than its bytes");
        assert!(whole.concat().chars().count() + 4 >= reference(&bytes).concat().chars().count());
    });
}
