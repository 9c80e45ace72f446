//! HTTP/1.1 as the Engine speaks it, sans-IO: request text out, response head and body in, any slicing.
//!
//! **Invariant:** nothing here buffers more than it is given, and every limit is checked before anything grows: a broken
//! or hostile peer costs an error, never memory. Bare LF, folded headers and doubtful lengths are refused, not guessed.

use std::fmt;

/// The longest response head, in bytes.
pub const MAX_HEAD: usize = 32 * 1024;
/// The most header lines in a head.
pub const MAX_HEADERS: usize = 100;
/// The most hexadecimal digits of a chunk size: with 15 it fits into 60 bits.
const MAX_SIZE_DIGITS: u8 = 15;
/// The longest chunk extension and the longest trailer, in bytes.
const MAX_SIDE: usize = 4 * 1024;

/// Why bytes are no acceptable HTTP response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The first line is no HTTP/1 status line.
    StatusLine,
    /// A header line is malformed (name, control character, line end, folding).
    Header,
    /// More head than [`MAX_HEAD`] bytes or [`MAX_HEADERS`] lines.
    HeadTooLarge,
    /// The head does not say unambiguously how long the body is.
    Length,
    /// A chunk's size line, end or trailer is malformed or too long.
    Chunk,
    /// The body is larger than the call accepts.
    BodyTooLarge,
    /// A log frame has an impossible header.
    Frame,
    /// The connection ended before the answer did.
    Truncated,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::StatusLine => "no http status line",
            Fault::Header => "malformed header",
            Fault::HeadTooLarge => "too many headers",
            Fault::Length => "doubtful body length",
            Fault::Chunk => "malformed chunk",
            Fault::BodyTooLarge => "body too large",
            Fault::Frame => "malformed log frame",
            Fault::Truncated => "it ended early",
        })
    }
}

/// The methods that the Engine's API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Method {
    Get,
    Head,
    Post,
    Delete,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// A request, built up piece by piece and then encoded. `Debug` shows no header: there are passwords in some.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent after [`Request::encode`].
    follows: u64,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("target", &self.target).finish_non_exhaustive()
    }
}

impl Request {
    /// A request without query, extra headers or body. `path` starts with `/`; parts of it that come from outside have
    /// gone through [`segment`] or [`path`].
    pub fn new(method: Method, path: impl Into<String>) -> Request {
        Request { method, target: path.into(), headers: Vec::new(), body: Vec::new(), follows: 0 }
    }

    /// Adds `name=value` to the query; both are escaped.
    pub fn query(mut self, name: &str, value: &str) -> Request {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        escape(&mut self.target, name, b"");
        self.target.push('=');
        escape(&mut self.target, value, b"");
        self
    }

    /// Adds a header. Values are ours (base64, media types): one with a control character is a programming error.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Request {
        let value = value.into();
        assert!(!value.bytes().any(|byte| byte.is_ascii_control()), "header values carry no control characters");
        self.headers.push((name, value));
        self
    }

    /// Sets a JSON body.
    pub fn json(mut self, body: Vec<u8>) -> Request {
        self.body = body;
        self.header("Content-Type", "application/json")
    }

    /// Announces a body of so many bytes, which follow what [`Request::encode`] gives.
    pub fn body_follows(mut self, length: u64) -> Request {
        self.follows = length;
        self
    }

    /// How much of the body follows.
    pub fn follows(&self) -> u64 {
        self.follows
    }

    /// The bytes to send: for the path below `prefix` (`/v1.41`, or nothing). The connection serves this one request.
    pub fn encode(&self, prefix: &str) -> Vec<u8> {
        let mut head = format!(
            "{} {prefix}{} HTTP/1.1\r\nHost: docker\r\nUser-Agent: reagent\r\nConnection: close\r\n",
            self.method.name(),
            self.target
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method == Method::Post {
            let length = self.follows.saturating_add(self.body.len() as u64);
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One path segment, escaped: a slash in it does not start another one.
pub fn segment(text: &str) -> String {
    let mut out = String::new();
    escape(&mut out, text, b"");
    out
}

/// Several path segments (an image name), escaped but for the slashes.
pub fn path(text: &str) -> String {
    let mut out = String::new();
    escape(&mut out, text, b"/:@");
    out
}

fn escape(out: &mut String, text: &str, also: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status, 100 to 599.
    pub status: u16,
    /// Names in lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
}

/// Reads a response head from the start of `bytes`: its length and itself, or `None` while it is incomplete.
///
/// # Errors
/// A [`Fault`] as soon as the bytes cannot become an acceptable head.
pub fn decode_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, Fault> {
    const START: &[u8] = b"HTTP/1.";
    let shown = bytes.len().min(START.len());
    if bytes[..shown] != START[..shown] {
        return Err(Fault::StatusLine);
    }
    let seen = &bytes[..bytes.len().min(MAX_HEAD)];
    let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() >= MAX_HEAD { Err(Fault::HeadTooLarge) } else { Ok(None) };
    };
    let mut lines = split_lines(&seen[..end]);
    let status = status_line(lines.next().unwrap_or_default())?;
    let mut headers = Vec::new();
    for line in lines {
        if headers.len() == MAX_HEADERS {
            return Err(Fault::HeadTooLarge);
        }
        headers.push(header_line(line)?);
    }
    Ok(Some((end + 4, Head { status, headers })))
}

/// Splits at CRLF alone: a bare CR or LF stays in its line, where it is refused as a control character.
fn split_lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else {
            return rest.take();
        };
        rest = Some(&bytes[end + 2..]);
        Some(&bytes[..end])
    })
}

/// `HTTP/1.x SSS[ reason]`.
fn status_line(line: &[u8]) -> Result<u16, Fault> {
    let printable = line.iter().all(|byte| !byte.is_ascii_control());
    match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', a @ b'1'..=b'5', b, c, rest @ ..]
            if printable && b.is_ascii_digit() && c.is_ascii_digit() && matches!(rest, [] | [b' ', ..]) =>
        {
            Ok([a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(**digit - b'0')))
        }
        _ => Err(Fault::StatusLine),
    }
}

fn header_line(line: &[u8]) -> Result<(String, String), Fault> {
    let line = std::str::from_utf8(line).map_err(|_| Fault::Header)?;
    let (name, value) = line.split_once(':').ok_or(Fault::Header)?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let value = value.trim_matches([' ', '\t']);
    if name.is_empty() || !name.bytes().all(is_token) || value.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Fault::Header);
    }
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

impl Head {
    /// The first value of header `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// How the body that follows is framed, given the request's method (RFC 9112 6.3).
    ///
    /// # Errors
    /// [`Fault::Length`] for an unknown transfer coding, for a length that is no number, and for two that differ.
    pub fn body(&self, of: Method) -> Result<Body, Fault> {
        if of == Method::Head || matches!(self.status, 100..200 | 204 | 304) {
            return Ok(Body::None);
        }
        let mut lengths = self.values("content-length");
        let mut codings = self.values("transfer-encoding");
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(Body::UntilClose),
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") && codings.next().is_none() => {
                Ok(Body::Chunked(Chunk::Size { value: 0, digits: 0 }))
            }
            (Some(length), None) if lengths.all(|other| other == length) => {
                let digits = (1..=18).contains(&length.len()) && length.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.parse().ok().filter(|_| digits).ok_or(Fault::Length)?;
                Ok(Body::Length(length))
            }
            _ => Err(Fault::Length),
        }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What is still to come of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing (more).
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, at this point of one.
    Chunked(Chunk),
    /// Everything until the connection ends.
    UntilClose,
}

/// A point inside the chunked coding (RFC 9112 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the grammar")]
pub enum Chunk {
    Size { value: u64, digits: u8 },
    Extension { value: u64, length: usize },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { line: usize, total: usize },
    TrailerLf { line: usize, total: usize },
}

impl Body {
    /// Decodes `input` and appends content to `out`. Returns how much of `input` belongs to this body: all of it unless
    /// the body is done.
    ///
    /// # Errors
    /// [`Fault::Chunk`].
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Fault> {
        let mut rest = input;
        while !rest.is_empty() && !self.is_done() {
            match self {
                Body::None => break,
                Body::UntilClose => {
                    out.extend_from_slice(rest);
                    rest = &[];
                }
                Body::Length(left) => rest = take(rest, left, out),
                Body::Chunked(Chunk::Data { left }) => {
                    rest = take(rest, left, out);
                    if *left == 0 {
                        *self = Body::Chunked(Chunk::DataCr);
                    }
                }
                Body::Chunked(chunk) => {
                    *self = chunk.step(rest[0])?.map_or(Body::None, Body::Chunked);
                    rest = &rest[1..];
                }
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Whether the body is complete without any more bytes.
    pub fn is_done(&self) -> bool {
        matches!(self, Body::None | Body::Length(0))
    }

    /// The connection has ended: was that the end of the body?
    ///
    /// # Errors
    /// [`Fault::Truncated`] if not.
    pub fn end(&self) -> Result<(), Fault> {
        if self.is_done() || *self == Body::UntilClose { Ok(()) } else { Err(Fault::Truncated) }
    }
}

/// Moves up to `left` bytes from `input` to `out`; returns the others.
fn take<'a>(input: &'a [u8], left: &mut u64, out: &mut Vec<u8>) -> &'a [u8] {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    out.extend_from_slice(&input[..count]);
    *left -= count as u64;
    &input[count..]
}

impl Chunk {
    /// The point after a byte of anything but content; `None` after the last one.
    fn step(self, byte: u8) -> Result<Option<Chunk>, Fault> {
        Ok(Some(match (self, byte) {
            (Chunk::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < MAX_SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Chunk::Size { value: value * 16 + digit, digits: digits + 1 }
            }
            (Chunk::Size { value, digits: 1.. }, b'\r') => Chunk::SizeEnd { value },
            (Chunk::Size { value, digits: 1.. }, b';') => Chunk::Extension { value, length: 0 },
            (Chunk::Extension { value, .. }, b'\r') => Chunk::SizeEnd { value },
            (Chunk::Extension { value, length }, 0x20.. | b'\t') if length < MAX_SIDE => {
                Chunk::Extension { value, length: length + 1 }
            }
            (Chunk::SizeEnd { value: 0 }, b'\n') => Chunk::Trailer { line: 0, total: 0 },
            (Chunk::SizeEnd { value }, b'\n') => Chunk::Data { left: value },
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => Chunk::Size { value: 0, digits: 0 },
            (Chunk::Trailer { line, total }, b'\r') => Chunk::TrailerLf { line, total },
            (Chunk::Trailer { line, total }, 0x20.. | b'\t') if total < MAX_SIDE => {
                Chunk::Trailer { line: line + 1, total: total + 1 }
            }
            (Chunk::TrailerLf { line: 0, .. }, b'\n') => return Ok(None),
            (Chunk::TrailerLf { total, .. }, b'\n') => Chunk::Trailer { line: 0, total },
            _ => return Err(Fault::Chunk),
        }))
    }
}

#[cfg(test)]
mod tests;
