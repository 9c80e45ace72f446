//! Every prefix and every split of real answers, and what no Engine would send.

use super::*;

/// The recorded answers of a real Engine 20.10: file name and bytes.
fn golden() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/docker");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    all.sort();
    assert!(all.len() > 20, "the recorded answers are in {folder}");
    all
}

fn method_of(name: &str) -> Method {
    if name.starts_with("ping-head") { Method::Head } else { Method::Get }
}

/// Decodes an answer that arrives in the given slices; the connection then ends.
fn decode<'a>(slices: impl IntoIterator<Item = &'a [u8]>, of: Method) -> Result<(Head, Vec<u8>), Fault> {
    let (mut seen, mut out) = (Vec::new(), Vec::new());
    let mut open: Option<(Head, Body)> = None;
    for slice in slices {
        match &mut open {
            Some((_, body)) => {
                body.feed(slice, &mut out)?;
            }
            None => {
                seen.extend_from_slice(slice);
                if let Some((length, head)) = decode_head(&seen)? {
                    let mut body = head.body(of)?;
                    body.feed(&seen[length..], &mut out)?;
                    open = Some((head, body));
                }
            }
        }
    }
    let (head, body) = open.ok_or(Fault::Truncated)?;
    body.end()?;
    Ok((head, out))
}

fn whole(text: &str) -> Result<(Head, Vec<u8>), Fault> {
    decode([text.as_bytes()], Method::Get)
}

#[test]
fn every_split_of_a_real_answer_decodes_to_the_same() {
    for (name, bytes) in golden() {
        let of = method_of(&name);
        let expected = decode([bytes.as_slice()], of);
        assert!(expected.is_ok(), "{name}: {expected:?}");
        for at in 0..=bytes.len() {
            assert_eq!(decode([&bytes[..at], &bytes[at..]], of), expected, "{name} split at {at}");
        }
        assert_eq!(decode(bytes.chunks(1), of), expected, "{name} byte by byte");
    }
}

#[test]
fn every_prefix_of_a_real_answer_is_incomplete_and_no_success() {
    for (name, bytes) in golden() {
        let of = method_of(&name);
        let (head, _) = decode_head(&bytes).unwrap().unwrap();
        for end in 0..bytes.len() {
            if end < head {
                assert_eq!(decode_head(&bytes[..end]), Ok(None), "{name} up to {end}");
            }
            assert_eq!(decode([&bytes[..end]], of), Err(Fault::Truncated), "{name} up to {end}");
        }
    }
}

#[test]
fn a_real_answer_has_the_expected_head_and_body() {
    let all = golden();
    let answer = |name: &str| {
        let (_, bytes) = all.iter().find(|(file, _)| file == &format!("{name}.http")).unwrap();
        decode([bytes.as_slice()], method_of(name)).unwrap()
    };
    assert_eq!(answer("ping-head").0.header("api-version"), Some("1.41"));
    assert_eq!(answer("ping-get").1, b"OK");
    assert_eq!(answer("wait").1, b"{\"Error\":null,\"StatusCode\":0}\n");
    assert_eq!(answer("start-already").0.status, 304);
    assert_eq!(answer("logs-tty").1, "one\r\ntwo\r\nä three".as_bytes());
}

#[test]
fn a_request_is_written_with_its_escapes_and_its_length() {
    let request = Request::new(Method::Post, format!("/containers/{}/x", segment("a/b c")))
        .query("filters", r#"{"a":["b&c"]}"#)
        .query("t", "ä")
        .json(b"{}".to_vec());
    assert_eq!(
        String::from_utf8(request.encode("/v1.41")).unwrap(),
        "POST /v1.41/containers/a%2Fb%20c/x?filters=%7B%22a%22%3A%5B%22b%26c%22%5D%7D&t=%C3%A4 HTTP/1.1\r\n\
         Host: docker\r\nUser-Agent: reagent\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{}"
    );
    assert_eq!(path("host:5000/a b/c@sha256:1"), "host:5000/a%20b/c@sha256:1");
    assert_eq!(segment("x\r\nEvil: 1\0"), "x%0D%0AEvil%3A%201%00");
    let get = String::from_utf8(Request::new(Method::Get, "/_ping").encode("")).unwrap();
    assert!(
        get.starts_with("GET /_ping HTTP/1.1\r\n") && get.ends_with("\r\n\r\n") && !get.contains("Length"),
        "{get}"
    );
}

#[test]
fn a_head_that_is_none_is_refused_at_once() {
    for (text, fault) in [
        ("SSH-2.0-OpenSSH\r\n", Fault::StatusLine),
        ("\0", Fault::StatusLine),
        ("HTTP/2", Fault::StatusLine),
        ("HTTP/1.2 200 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 -20 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 600 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 200 O\0K\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 200 OK\nA: b\n\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 200\r\nno colon\r\n\r\n", Fault::Header),
        ("HTTP/1.1 200\r\n: empty\r\n\r\n", Fault::Header),
        ("HTTP/1.1 200\r\nA : b\r\n\r\n", Fault::Header),
        ("HTTP/1.1 200\r\nA: b\r\n folded\r\n\r\n", Fault::Header),
        ("HTTP/1.1 200\r\nA: b\0c\r\n\r\n", Fault::Header),
        ("HTTP/1.1 200\r\nA: b\rc\r\n\r\n", Fault::Header),
        ("HTTP/1.1 200\r\nA: b\nC: d\r\n\r\n", Fault::Header),
    ] {
        assert_eq!(decode_head(text.as_bytes()), Err(fault), "{text:?}");
    }
    assert_eq!(decode_head(b"HTTP/1.1 200\r\nA: \xff\r\n\r\n"), Err(Fault::Header));
}

#[test]
fn a_flood_of_headers_is_refused_with_bounded_memory() {
    let line = "A: b\r\n";
    let many = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", line.repeat(count));
    assert!(decode_head(many(MAX_HEADERS).as_bytes()).unwrap().is_some());
    assert_eq!(decode_head(many(MAX_HEADERS + 1).as_bytes()), Err(Fault::HeadTooLarge));
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD));
    assert_eq!(decode_head(endless.as_bytes()), Err(Fault::HeadTooLarge));
    assert_eq!(decode_head(&endless.as_bytes()[..MAX_HEAD - 1]), Ok(None));
}

#[test]
fn a_doubtful_length_is_refused() {
    for lengths in [
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: ",
        "Content-Length: 0x10",
        "Content-Length: 1, 1",
        "Content-Length: 9999999999999999999",
        "Content-Length: 18446744073709551617",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        assert_eq!(whole(&format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nx")), Err(Fault::Length), "{lengths}");
    }
    assert!(whole("HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\nx").is_ok());
}

#[test]
fn a_malformed_chunk_is_refused() {
    let zeros = "0".repeat(16);
    for body in [
        "-1\r\n",
        "\r\n",
        ";x\r\n",
        "g\r\n",
        " 1\r\nx\r\n",
        "1 \r\nx\r\n",
        "1\nx\r\n",
        "1\rx",
        "1\r\nxy\r\n",
        "1\r\nx\n",
        "ffffffffffffffff\r\n",
        "10000000000000000\r\n",
        &zeros,
        "0\r\nA: \0\r\n\r\n",
        "0\r\n\n",
        "1;\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(whole(&text), Err(Fault::Chunk), "{body:?}");
    }
    for side in [format!("1;{}", "x".repeat(MAX_SIDE + 1)), format!("0\r\n{}", "A: b\r\n".repeat(MAX_SIDE))] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n{side}");
        assert_eq!(whole(&text), Err(Fault::Chunk));
    }
}

#[test]
fn extensions_and_trailers_are_passed_over_and_nothing_is_read_beyond_the_end() {
    let mut body = Body::Chunked(Chunk::Size { value: 0, digits: 0 });
    let mut out = Vec::new();
    let input = b"2;name=\"v\"\r\nab\r\nA\r\n0123456789\r\n0\r\nX: y\r\nZ: w\r\n\r\nHTTP/1.1";
    assert_eq!(body.feed(input, &mut out), Ok(input.len() - 8));
    assert_eq!((body.is_done(), out.as_slice()), (true, b"ab0123456789".as_slice()));
    let mut body = Body::Length(2);
    assert_eq!((body.feed(b"abc", &mut out), body.is_done()), (Ok(2), true));
}

#[test]
fn a_huge_promise_allocates_nothing() {
    for head in ["Content-Length: 999999999999999999\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n"]
    {
        assert_eq!(whole(&format!("HTTP/1.1 200 OK\r\n{head}x")), Err(Fault::Truncated));
    }
}

#[test]
fn answers_without_a_body_have_none_whatever_their_headers_say() {
    for status in ["101 Switching", "204 No Content", "304 Not Modified"] {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(decode_head(head.as_bytes()).unwrap().unwrap().1.body(Method::Get), Ok(Body::None));
    }
    let (head, rest) = whole("HTTP/1.0 200 OK\r\n\r\nuntil the end").unwrap();
    assert_eq!((head.status, rest.as_slice()), (200, b"until the end".as_slice()));
}
