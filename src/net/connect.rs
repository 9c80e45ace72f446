//! HTTP `CONNECT` (RFC 9110 9.3.6), sans-IO: a request out, the head of the answer in.
//!
//! **Invariant:** at most [`MAX_HEAD`] bytes are held, and not one byte behind the head is taken.

use crate::net::proxy::{Error, Login, Step, authority};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest head of an answer, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
const START: &[u8] = b"HTTP/1.";

/// The answer so far.
#[derive(Debug)]
pub struct Connect {
    head: Vec<u8>,
    has_login: bool,
}

impl Connect {
    /// The beginning, and the request to send.
    pub fn start(host: &str, port: u16, login: Option<&Login>) -> (Connect, Vec<u8>) {
        let target = authority(host, port);
        let agent = concat!("reagent/", env!("CARGO_PKG_VERSION"));
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {agent}\r\n");
        if let Some(Login { user, password }) = login {
            let token = STANDARD.encode(format!("{user}:{}", password.reveal()));
            request.push_str(&format!("Proxy-Authorization: Basic {token}\r\n"));
        }
        request.push_str("\r\n");
        (Connect { head: Vec::new(), has_login: login.is_some() }, request.into_bytes())
    }

    /// Takes the next byte of the answer.
    ///
    /// # Errors
    /// [`Error::Protocol`] as soon as this is no answer, [`Error::Refused`] after the head of one that is no 2xx.
    pub fn take(&mut self, byte: u8) -> Result<Step, Error> {
        self.head.push(byte);
        let shown = self.head.len().min(START.len());
        if self.head[..shown] != START[..shown] {
            return Err(Error::Protocol("its answer is not HTTP"));
        }
        if !self.head.ends_with(b"\r\n\r\n") && !self.head.ends_with(b"\n\n") {
            let too_long = self.head.len() >= MAX_HEAD;
            return if too_long { Err(Error::Protocol("its answer has no end")) } else { Ok(Step::More) };
        }
        let line = self.head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        match status(line) {
            Some(200..300) => Ok(Step::Open),
            // An interim answer: the real one follows. 101 would be another protocol, which nobody asked for.
            Some(100 | 102..200) => {
                self.head.clear();
                Ok(Step::More)
            }
            Some(407) if self.has_login => Err(refused(line, ": the user or password in its URL is not taken")),
            Some(407) => Err(refused(line, ": it wants a user and password in its URL")),
            Some(_) => Err(refused(line, "")),
            None => Err(Error::Protocol("its answer has no status")),
        }
    }
}

/// The status of `HTTP/1.x SSS[ reason]`.
fn status(line: &[u8]) -> Option<u16> {
    let digits = line.get(9..12)?;
    let separated = line[8] == b' ' && matches!(line.get(12), None | Some(b' ' | b'\r'));
    (separated && digits.iter().all(u8::is_ascii_digit))
        .then(|| digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
}

/// The status line as text that a log can take, and what it means.
fn refused(line: &[u8], meaning: &str) -> Error {
    let shown = line[9..].iter().take(80).map(|byte| char::from(*byte)).filter(|char| !char.is_control());
    Error::Refused(format!("{}{meaning}", shown.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    /// Feeds an answer; what came of it and how many bytes that took.
    fn answered(login: Option<&Login>, answer: &[u8]) -> (Result<Step, Error>, usize) {
        let (mut connect, _) = Connect::start("a.b", 443, login);
        for (at, byte) in answer.iter().enumerate() {
            match connect.take(*byte) {
                Ok(Step::More) => {}
                other => return (other, at + 1),
            }
        }
        (Ok(Step::More), answer.len())
    }

    #[test]
    fn the_request_names_the_target_and_the_login() {
        let login = Login { user: "Aladdin".to_owned(), password: Secret::new("open sesame") };
        let (_, request) = Connect::start("2001:db8::1", 8080, Some(&login));
        let request = String::from_utf8(request).unwrap();
        assert!(
            request.starts_with("CONNECT [2001:db8::1]:8080 HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n"),
            "{request}"
        );
        assert!(request.ends_with("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"), "{request}");
        let (_, request) = Connect::start("a.b", 443, None);
        assert!(!String::from_utf8(request).unwrap().contains("Authorization"));
    }

    #[test]
    fn the_way_is_open_right_behind_the_head_and_never_before() {
        for head in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200\r\nVia: x\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 299 x\n\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            for end in 0..head.len() {
                assert_eq!(answered(None, &head.as_bytes()[..end]), (Ok(Step::More), end), "{head:?}");
            }
            let followed = format!("{head}tls");
            assert_eq!(answered(None, followed.as_bytes()), (Ok(Step::Open), head.len()), "{head:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_status_and_what_to_do() {
        let login = Login { user: "u".to_owned(), password: Secret::new("hunter2") };
        let text = |login, answer: &str| answered(login, answer.as_bytes()).0.unwrap_err().to_string();
        let authentication = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n";
        assert_eq!(
            text(None, authentication),
            "it refuses: 407 Proxy Authentication Required: it wants a user and password in its URL"
        );
        assert_eq!(
            text(Some(&login), authentication),
            "it refuses: 407 Proxy Authentication Required: the user or password in its URL is not taken"
        );
        assert_eq!(text(None, "HTTP/1.1 403 For\x1b[31mbidden\r\n\r\n"), "it refuses: 403 For[31mbidden");
        assert_eq!(text(None, "HTTP/1.1 502\r\n\r\n"), "it refuses: 502");
        let long = format!("HTTP/1.1 500 {}\r\n\r\n", "x".repeat(5000));
        assert!(text(None, &long).len() < 100);
    }

    #[test]
    fn what_is_no_answer_is_refused_early_and_bounded() {
        let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'y'; 2 * MAX_HEAD]].concat();
        assert_eq!(answered(None, &endless), (Err(Error::Protocol("its answer has no end")), MAX_HEAD));
        for (answer, taken) in [("SSH-2.0-x\r\n", 1), ("HTTP/2 200\r\n\r\n", 6), ("\x15\x03\x01", 1), ("\r\n", 1)] {
            assert_eq!(answered(None, answer.as_bytes()), (Err(Error::Protocol("its answer is not HTTP")), taken));
        }
        for answer in ["HTTP/1.1\n\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 2000\r\n\r\n", "HTTP/1.1  200\r\n\r\n"] {
            let (found, _) = answered(None, answer.as_bytes());
            assert_eq!(found, Err(Error::Protocol("its answer has no status")), "{answer:?}");
        }
        assert!(matches!(answered(None, b"HTTP/1.1 101 x\r\n\r\n").0, Err(Error::Refused(_))));
    }
}
