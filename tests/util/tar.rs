//! Tar archives made by hand, so that they can say what no program would write.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;

/// An archive in the making.
#[derive(Default, Clone)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// A file.
    pub fn file(self, name: &str, content: &str) -> Tar {
        self.entry(name, b'0', "", content.as_bytes())
    }

    /// A symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.entry(name, b'2', target, b"")
    }

    /// A second name.
    pub fn hard_link(self, name: &str, of: &str) -> Tar {
        self.entry(name, b'1', of, b"")
    }

    /// Any entry, in GNU's format; names are cut after 100 bytes.
    pub fn entry(mut self, name: &str, flag: u8, link: &str, content: &[u8]) -> Tar {
        let mut header = [0; 512];
        let mut put = |at: usize, most: usize, bytes: &[u8]| {
            let bytes = &bytes[..bytes.len().min(most)];
            header[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, 100, name.as_bytes());
        put(100, 8, b"0000600\0");
        put(124, 12, format!("{:011o}\0", content.len()).as_bytes());
        put(148, 8, b"        ");
        put(156, 1, &[flag]);
        put(157, 100, link.as_bytes());
        put(257, 8, b"ustar  \0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// An extended header with one record, for the entry that follows.
    pub fn extended(self, key: &str, value: &str) -> Tar {
        let rest = format!(" {key}={value}\n");
        // The length counts its own digits.
        let length = (1..).find(|length: &usize| length.to_string().len() + rest.len() == *length).unwrap_or(0);
        self.entry("header", b'x', "", format!("{length}{rest}").as_bytes())
    }

    /// The bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.clone()
    }

    /// With the mark of the end, compressed.
    pub fn pack(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        compressed(&self.0)
    }
}

/// In gzip's format.
pub fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}
