//! Whether this machine has an NVIDIA GPU that containers may use (`apps.md` 3.4).

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No file is read further than this; the loader's cache has 300 KB on a full desktop.
const LIMIT: u64 = 4 * 1024 * 1024;

/// Asks the three signs: NVIDIA's own folder, the model of the board, and the libraries that the loader knows. The cache
/// of the loader is read instead of running `ldconfig -p`, which prints it.
pub fn is_there() -> bool {
    Path::new("/usr/lib/nvidia").exists()
        || contains(Path::new("/proc/device-tree/model"), b"nvidia")
        || contains(Path::new("/etc/ld.so.cache"), b"libnvidia")
}

/// Whether a file holds a text in lower case, whatever the case in the file.
fn contains(path: &Path, text: &[u8]) -> bool {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
    bytes.make_ascii_lowercase();
    read.is_ok() && bytes.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    #[test]
    fn a_text_is_found_anywhere_and_in_any_case() {
        let dir = Scratch::new();
        let path = dir.file("model", b"\0\xFFnnNVIDIA Jetson Nano\0");
        assert!(contains(&path, b"nvidia") && contains(&path, b"nano\0"));
        assert!(!contains(&path, b"libnvidia") && !contains(&dir.join("none"), b"nvidia"));
    }
}
