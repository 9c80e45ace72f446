//! SOCKS 5 (RFC 1928) with user and password (RFC 1929), sans-IO: bytes in, bytes out.
//!
//! ```text
//!   greeting -> Method --(no login)--> request -> Reply -> open
//!                  `---(login)--> Login ---^
//! ```
//!
//! **Invariant:** no more is held than the longest reply (262 bytes), and not one byte behind it is taken.

use crate::net::proxy::{Error, Login, Step};
use std::net::IpAddr;

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const BY_LOGIN: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Method,
    Login,
    Reply,
}

/// See the module.
#[derive(Debug)]
pub struct Socks5 {
    stage: Stage,
    /// What has come in this stage.
    seen: Vec<u8>,
    login: Option<Login>,
    request: Vec<u8>,
}

impl Socks5 {
    /// The beginning, and the greeting to send. Names are left to the proxy to resolve.
    ///
    /// # Errors
    /// [`Error::TooLong`] if a name, user or password has more than 255 bytes.
    pub fn start(host: &str, port: u16, login: Option<&Login>) -> Result<(Socks5, Vec<u8>), Error> {
        let mut request = vec![VERSION, 1, 0];
        match host.parse() {
            Ok(IpAddr::V4(address)) => request.extend([1].into_iter().chain(address.octets())),
            Ok(IpAddr::V6(address)) => request.extend([4].into_iter().chain(address.octets())),
            Err(_) => {
                request.extend([3, length(host, "the name of the endpoint")?]);
                request.extend(host.as_bytes());
            }
        }
        request.extend(port.to_be_bytes());
        if let Some(Login { user, password }) = login {
            length(user, "the user name")?;
            length(password.reveal(), "the password")?;
        }
        let greeting = if login.is_some() { vec![VERSION, 2, NO_LOGIN, BY_LOGIN] } else { vec![VERSION, 1, NO_LOGIN] };
        Ok((Socks5 { stage: Stage::Method, seen: Vec::new(), login: login.cloned(), request }, greeting))
    }

    /// Takes the next byte.
    ///
    /// # Errors
    /// [`Error::Protocol`] as soon as this is no SOCKS 5, [`Error::Refused`].
    pub fn take(&mut self, byte: u8) -> Result<Step, Error> {
        self.seen.push(byte);
        match (self.stage, self.seen.as_slice()) {
            (Stage::Method | Stage::Reply, [version]) if *version != VERSION => {
                Err(Error::Protocol("its answer is not SOCKS 5"))
            }
            (Stage::Login, [version]) if *version != LOGIN_VERSION => {
                Err(Error::Protocol("its answer to the login is none"))
            }
            (Stage::Method, [_, NO_LOGIN]) => Ok(self.send_request()),
            (Stage::Method, [_, BY_LOGIN]) if self.login.is_some() => Ok(self.send_login()),
            (Stage::Method, [_, NONE_ACCEPTABLE]) => Err(Error::Refused(match self.login {
                Some(_) => "it takes neither nobody nor a user with a password".to_owned(),
                None => "it wants a user and password in its URL".to_owned(),
            })),
            (Stage::Method, [_, _]) => Err(Error::Protocol("it chose a way to log in that was not offered")),
            (Stage::Login, [_, 0]) => Ok(self.send_request()),
            (Stage::Login, [_, _]) => Err(Error::Refused("the user or password in its URL is not taken".to_owned())),
            (Stage::Reply, [_, code]) if *code != 0 => Err(Error::Refused(failure(*code))),
            (Stage::Reply, seen) => reply_step(seen),
            (Stage::Method | Stage::Login, _) => Ok(Step::More),
        }
    }

    fn send_login(&mut self) -> Step {
        (self.stage, self.seen) = (Stage::Login, Vec::new());
        let mut bytes = vec![LOGIN_VERSION];
        for part in self.login.iter().flat_map(|Login { user, password }| [user, password.reveal()]) {
            bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX)); // checked at the start
            bytes.extend(part.as_bytes());
        }
        Step::Send(bytes)
    }

    fn send_request(&mut self) -> Step {
        (self.stage, self.seen) = (Stage::Reply, Vec::new());
        Step::Send(std::mem::take(&mut self.request))
    }
}

fn length(text: &str, what: &'static str) -> Result<u8, Error> {
    u8::try_from(text.len()).map_err(|_| Error::TooLong(what))
}

/// Where the way ends at the proxy is of no interest, but has to be read over.
fn reply_step(seen: &[u8]) -> Result<Step, Error> {
    let address = match seen {
        [_, _, _, 1, ..] => 4,
        [_, _, _, 4, ..] => 16,
        [_, _, _, 3, length, ..] => 1 + usize::from(*length),
        [_, _, _, 3] | [] | [_] | [_, _] | [_, _, _] => return Ok(Step::More),
        _ => return Err(Error::Protocol("its answer has an address of an unknown kind")),
    };
    Ok(if seen.len() < 4 + address + 2 { Step::More } else { Step::Open })
}

fn failure(code: u8) -> String {
    match code {
        1 => "general failure".to_owned(),
        2 => "its rules do not allow this endpoint".to_owned(),
        3 => "the network of the endpoint is unreachable from it".to_owned(),
        4 => "the endpoint is unreachable from it, or it cannot resolve the name".to_owned(),
        5 => "the endpoint refused its connection".to_owned(),
        6 => "the endpoint did not answer it in time".to_owned(),
        7 => "it does not connect anywhere (command not supported)".to_owned(),
        8 => "it does not take this kind of address".to_owned(),
        other => format!("code {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn login() -> Login {
        Login { user: "user".to_owned(), password: Secret::new("pässword") }
    }

    /// Feeds an answer; everything sent, what came last, and how many bytes were taken until then.
    fn talk(login: Option<&Login>, answer: &[u8]) -> (Vec<u8>, Result<Step, Error>, usize) {
        let (mut socks, mut sent) = Socks5::start("a.b", 0x1234, login).unwrap();
        for (at, byte) in answer.iter().enumerate() {
            match socks.take(*byte) {
                Ok(Step::More) => {}
                Ok(Step::Send(bytes)) => sent.extend(bytes),
                other => return (sent, other, at + 1),
            }
        }
        (sent, Ok(Step::More), answer.len())
    }

    #[test]
    fn names_and_addresses_are_asked_for_in_their_own_form() {
        for (host, request) in [
            ("a.b", &[5, 1, 0, 3, 3, b'a', b'.', b'b', 0x12, 0x34][..]),
            ("1.2.3.4", &[5, 1, 0, 1, 1, 2, 3, 4, 0x12, 0x34]),
            ("::1", &[5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x12, 0x34]),
        ] {
            let (mut socks, greeting) = Socks5::start(host, 0x1234, None).unwrap();
            assert_eq!(greeting, [5, 1, 0]);
            assert_eq!(socks.take(5), Ok(Step::More));
            assert_eq!(socks.take(0), Ok(Step::Send(request.to_vec())), "{host}");
        }
        let long = "x".repeat(256);
        assert_eq!(Socks5::start(&long, 1, None).err(), Some(Error::TooLong("the name of the endpoint")));
        let mut who = login();
        who.user.clone_from(&long);
        assert_eq!(Socks5::start("a", 1, Some(&who)).err(), Some(Error::TooLong("the user name")));
        who = Login { password: Secret::new(long), ..login() };
        assert_eq!(Socks5::start("a", 1, Some(&who)).err(), Some(Error::TooLong("the password")));
    }

    #[test]
    fn the_way_is_open_right_behind_the_reply_and_never_before() {
        for address in
            [&[1, 0, 0, 0, 0][..], &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[3, 2, b'h', b'i'], &[3, 0]]
        {
            for (who, opening) in [(None, &[5, 0][..]), (Some(&login()), &[5, 0]), (Some(&login()), &[5, 2, 1, 0])] {
                let answer = [opening, &[5, 0, 0], address, &[0, 0]].concat();
                for end in 0..answer.len() {
                    let (_, last, taken) = talk(who, &answer[..end]);
                    assert_eq!((last, taken), (Ok(Step::More), end));
                }
                let (sent, last, taken) = talk(who, &[&answer, &b"tls"[..]].concat());
                assert_eq!((last, taken), (Ok(Step::Open), answer.len()));
                let request = [5, 1, 0, 3, 3, b'a', b'.', b'b', 0x12, 0x34];
                assert!(sent.ends_with(&request), "{sent:?}");
                let with_login = [&[5, 2, 0, 2, 1, 4][..], b"user", &[9], "pässword".as_bytes(), &request].concat();
                assert_eq!(sent == with_login, opening.len() == 4, "{sent:?}");
            }
        }
    }

    #[test]
    fn refusals_are_told_in_words() {
        for (who, answer, reason) in [
            (None, &[5, 0xff][..], "it wants a user and password in its URL"),
            (Some(&login()), &[5, 0xff], "it takes neither nobody nor a user with a password"),
            (Some(&login()), &[5, 2, 1, 7], "the user or password in its URL is not taken"),
            (None, &[5, 0, 5, 2], "its rules do not allow this endpoint"),
            (None, &[5, 0, 5, 5], "the endpoint refused its connection"),
            (None, &[5, 0, 5, 99], "code 99"),
        ] {
            let (_, last, taken) = talk(who, answer);
            assert_eq!((last, taken), (Err(Error::Refused(reason.to_owned())), answer.len()));
        }
        assert!((1..=u8::MAX).all(|code| !failure(code).is_empty()));
    }

    #[test]
    fn no_byte_at_any_place_is_taken_for_something_else() {
        let good = [5, 2, 1, 0, 5, 0, 0, 1, 9, 9, 9, 9, 0, 1];
        for at in 0..good.len() {
            for byte in 0..=u8::MAX {
                let mut answer = good;
                answer[at] = byte;
                let (_, last, taken) = talk(Some(&login()), &answer);
                let may_vary = at == 6 || at >= 8;
                assert!(matches!(last, Ok(_) | Err(Error::Refused(_) | Error::Protocol(_))));
                assert!(!may_vary || (last == Ok(Step::Open) && taken == good.len()), "{at} {byte}: {last:?}");
                assert!(last != Ok(Step::Open) || may_vary || byte == good[at] || at == 1, "{at} {byte}: {last:?}");
            }
        }
        assert_eq!(talk(None, b"HTTP/1.1 400 Bad").1, Err(Error::Protocol("its answer is not SOCKS 5")));
        assert!(matches!(talk(None, &[5, 2]).1, Err(Error::Protocol(_))), "not offered");
    }
}
