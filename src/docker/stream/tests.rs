//! Lines and frames under every slicing.

use super::*;

fn lines(slices: &[&[u8]]) -> Vec<String> {
    let (mut splitter, mut out) = (LineSplitter::default(), Vec::new());
    slices.iter().for_each(|slice| splitter.feed(slice, |line| out.push(line)));
    splitter.finish(|line| out.push(line));
    out
}

#[test]
fn lines_end_at_lf_and_lose_one_cr_and_broken_utf8_is_replaced() {
    let text = b"one\r\n\ntwo\r\r\nmid\rdle\n\xff\xe4 \xc3\xa4\nlast\r";
    let expected = ["one", "", "two\r", "mid\rdle", "\u{fffd}\u{fffd} ä", "last"];
    for at in 0..=text.len() {
        assert_eq!(lines(&[&text[..at], &text[at..]]), expected, "split at {at}");
    }
    assert_eq!(lines(&text.chunks(1).collect::<Vec<_>>()), expected);
    assert_eq!(lines(&[b"no end"]), ["no end"]);
    assert!(lines(&[]).is_empty());
}

#[test]
fn s5_a_line_over_one_mebibyte_is_split_and_not_dropped() {
    for (length, end) in [
        (MAX_LINE - 1, "\r\n"),
        (MAX_LINE, "\r\n"),
        (MAX_LINE, "\r\r\n"),
        (MAX_LINE, ""),
        (MAX_LINE + 1, "\r\n"),
        (MAX_LINE + 1, ""),
        (2 * MAX_LINE, "\n"),
        (3 * MAX_LINE + 7, "\n"),
    ] {
        let text = format!("{}{end}rest", "x".repeat(length));
        let whole = lines(&[text.as_bytes()]);
        for size in [4096, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, MAX_LINE + 2] {
            assert!(lines(&text.as_bytes().chunks(size).collect::<Vec<_>>()) == whole, "{length} {end:?} by {size}");
        }
        assert!(whole.iter().all(|line| line.len() <= MAX_LINE), "{length} {end:?}");
        let kept: usize = whole.iter().map(|line| line.matches('x').count()).sum();
        assert_eq!(kept, length);
        assert!(whole.iter().all(|line| !line.is_empty()));
    }
}

#[test]
fn a_line_is_not_split_inside_a_character() {
    let text = "ä".repeat(MAX_LINE);
    let all = lines(&[b"x", text.as_bytes(), b"\n"]);
    assert_eq!(all.concat().len(), 1 + text.len());
    assert!(!all.concat().contains('\u{fffd}'));
}

#[test]
fn a_flood_without_line_ends_is_held_to_one_line() {
    let mut splitter = LineSplitter::default();
    let mut count = 0;
    for _ in 0..64 {
        splitter.feed(&[b'x'; 256 * 1024], |line| count += line.len());
        assert!(splitter.pending.len() <= MAX_LINE + 1);
    }
    assert!(count >= 15 * MAX_LINE);
}

fn frame(source: u8, payload: &str) -> Vec<u8> {
    let mut bytes = vec![source, 0, 0, 0];
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(payload.as_bytes());
    bytes
}

fn log(tty: bool, slices: &[&[u8]]) -> (Vec<(Source, String)>, Result<(), Fault>) {
    let (mut decoder, mut lines) = (LogDecoder::new(tty), VecDeque::new());
    let fed = slices.iter().try_for_each(|slice| decoder.feed(slice, &mut lines));
    let end = fed.and(decoder.finish(&mut lines));
    (lines.into_iter().map(|line| (line.source, line.text)).collect(), end)
}

#[test]
fn frames_of_two_sources_do_not_mix_their_lines_under_any_slicing() {
    let bytes =
        [frame(1, "he"), frame(2, "wo"), frame(1, ""), frame(1, "llo\nrest"), frame(2, "rld\n"), frame(3, "e\n")]
            .concat();
    let expected =
        [(Source::Stdout, "hello"), (Source::Stderr, "world"), (Source::Engine, "e"), (Source::Stdout, "rest")]
            .map(|(source, text)| (source, text.to_owned()));
    for at in 0..=bytes.len() {
        assert_eq!(log(false, &[&bytes[..at], &bytes[at..]]), (expected.to_vec(), Ok(())), "split at {at}");
    }
    assert_eq!(log(false, &bytes.chunks(1).collect::<Vec<_>>()), (expected.to_vec(), Ok(())));
}

#[test]
fn a_log_that_ends_inside_a_frame_is_truncated_but_its_text_is_kept() {
    let bytes = frame(1, "hello\n");
    for end in 1..bytes.len() {
        let (lines, result) = log(false, &[&bytes[..end]]);
        assert_eq!(result, Err(Fault::Truncated), "up to {end}");
        assert_eq!(lines.len(), usize::from(end > 8), "up to {end}");
    }
}

#[test]
fn bytes_that_are_no_frames_are_refused_after_four() {
    for bytes in [b"hell".as_slice(), b"\x04\0\0\0", b"\x01\0\0\x01", b"\x01\x01\0\0"] {
        assert_eq!(log(false, &[bytes]).1, Err(Fault::Frame), "{bytes:?}");
    }
    assert_eq!(log(false, &[b"\x01\0\0\0\xff\xff\xff\xffx"]).1, Err(Fault::Truncated));
}

#[test]
fn a_log_of_a_terminal_is_raw() {
    let expected = vec![(Source::Stdout, "\u{1}\0\0\0".to_owned()), (Source::Stdout, "x".to_owned())];
    assert_eq!(log(true, &[b"\x01\0\0\0\r\nx"]), (expected, Ok(())));
}
