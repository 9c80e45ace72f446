//! The blocking socket as TLS and WebSocket see it: reads take what the pump has brought, writes go to the socket.
//!
//! **Invariant:** `read` never blocks (`WouldBlock` when nothing has come), `write` blocks for the socket's write timeout
//! at most, and after a failed write every further one fails at once.

use crate::wamp::pump::Pumped;
use crossbeam_channel::{Receiver, TryRecvError};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// See the module.
#[derive(Debug)]
pub struct Pipe {
    input: Receiver<Pumped>,
    chunk: Vec<u8>,
    read: usize,
    end: Option<Option<String>>,
    output: TcpStream,
    broken: bool,
}

impl Pipe {
    /// Both halves of one connection.
    pub fn new(input: Receiver<Pumped>, output: TcpStream) -> Pipe {
        Pipe { input, chunk: Vec::new(), read: 0, end: None, output, broken: false }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.chunk.len() && self.end.is_none() {
            match self.input.try_recv() {
                Ok(Pumped::Bytes(chunk)) => (self.chunk, self.read) = (chunk, 0),
                Ok(Pumped::End(reason)) => self.end = Some(reason),
                Err(TryRecvError::Disconnected) => self.end = Some(None),
                Ok(Pumped::Connected(_)) | Err(TryRecvError::Empty) => return Err(ErrorKind::WouldBlock.into()),
            }
        }
        let rest = &self.chunk[self.read..];
        if rest.is_empty() {
            return match &self.end {
                Some(Some(reason)) => Err(io::Error::new(ErrorKind::ConnectionReset, reason.clone())),
                _ => Ok(0),
            };
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        if self.read == self.chunk.len() {
            (self.chunk, self.read) = (Vec::new(), 0); // an idle connection holds no buffer
        }
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::new(ErrorKind::BrokenPipe, "an earlier write failed"));
        }
        self.output.write(bytes).map_err(|error| match error.kind() {
            ErrorKind::Interrupted => error,
            // A blocking socket reports its write timeout so. It must not be taken for "nothing to read".
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                self.broken = true;
                io::Error::new(ErrorKind::TimedOut, "the peer does not take what is sent")
            }
            _ => {
                self.broken = true;
                error
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;
    use std::net::TcpListener;
    use std::time::Duration;

    fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn every_way_of_cutting_the_stream_reads_the_same() {
        let (client, _server) = tcp();
        let text = b"hello, world";
        for size in 1..=text.len() {
            for buffer in 1..=text.len() {
                let (chunks, input) = bounded(16);
                let mut pipe = Pipe::new(input, client.try_clone().unwrap());
                for chunk in text.chunks(size) {
                    chunks.send(Pumped::Bytes(chunk.to_vec())).unwrap();
                }
                let mut read: Vec<u8> = Vec::new();
                let mut bytes = vec![0; buffer];
                let blocked = loop {
                    match pipe.read(&mut bytes) {
                        Ok(count) => read.extend(&bytes[..count]),
                        Err(error) => break error,
                    }
                };
                assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
                assert_eq!(read, text);
                chunks.send(Pumped::End(None)).unwrap();
                assert_eq!(pipe.read(&mut bytes).unwrap(), 0);
                assert_eq!(pipe.read(&mut bytes).unwrap(), 0, "the end stays the end");
            }
        }
    }

    #[test]
    fn a_failed_or_vanished_pump_is_an_error_or_the_end() {
        let (client, _server) = tcp();
        let (chunks, input) = bounded(1);
        let mut pipe = Pipe::new(input, client.try_clone().unwrap());
        chunks.send(Pumped::End(Some("cable pulled".to_owned()))).unwrap();
        assert_eq!(pipe.read(&mut [0]).unwrap_err().to_string(), "cable pulled");
        assert_eq!(pipe.read(&mut [0]).unwrap_err().to_string(), "cable pulled");
        let (chunks, input) = bounded(1);
        let mut pipe = Pipe::new(input, client);
        drop(chunks);
        assert_eq!(pipe.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn c4_a_peer_that_stops_reading_breaks_the_pipe_for_good() {
        let (client, _server) = tcp();
        client.set_write_timeout(Some(Duration::from_millis(30))).unwrap();
        let mut pipe = Pipe::new(bounded(1).1, client);
        let error = pipe.write_all(&vec![0; 256 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(pipe.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe, "no second timeout");
    }
}
