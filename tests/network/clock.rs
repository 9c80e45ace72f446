//! The clocks of the agent's process, moved by a small library that is preloaded into it (`clock.c`).
//!
//! The wall clock jumps as on a board that gets its time from the network. The monotonic clock jumps, too, so that a session
//! counts as stable without a minute of waiting; what waits at that moment is not woken, but for who waits for an answer on a
//! local socket: an engine's silence can be as long as it takes.

use super::run;
use crate::util::TempDir;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

pub struct Clock {
    folder: TempDir,
    file: File,
    mono: i64,
}

impl Clock {
    /// Builds the library (a C compiler is there: SQLite is built by it, too).
    #[track_caller]
    pub fn new() -> Clock {
        let folder = TempDir::new("clock");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/clock.c");
        let library = folder.join("clock.so");
        run("cc", &["-shared", "-fPIC", "-O1", "-Wall", "-o", &library.to_string_lossy(), source, "-ldl"]);
        let file = File::create(folder.join("ahead")).expect("a fresh folder takes a file");
        let mut clock = Clock { folder, file, mono: 0 };
        clock.write(0, 0);
        clock.write(8, 0);
        clock
    }

    /// What the agent's process needs.
    pub fn env(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        vec![("LD_PRELOAD".to_owned(), path("clock.so")), ("REAGENT_TEST_CLOCK".to_owned(), path("ahead"))]
    }

    /// The monotonic clock goes on later.
    pub fn skip(&mut self, time: Duration) {
        self.mono += i64::try_from(time.as_nanos()).expect("less than a century");
        self.write(0, self.mono);
    }

    /// The wall clock is so many seconds ahead of the machine's.
    pub fn set_wall(&mut self, ahead: i64) {
        self.write(8, ahead * 1_000_000_000);
    }

    fn write(&mut self, at: u64, nanos: i64) {
        self.file.write_all_at(&nanos.to_ne_bytes(), at).expect("the file is written");
    }
}
