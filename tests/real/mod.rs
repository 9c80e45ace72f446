//! The real parts: started once per test process by the scripts of `tests/env`, shared by all tests.

pub fn crossbar() -> Crossbar {
    Crossbar
}

pub struct Crossbar;

impl Crossbar {
    pub fn url(&self) -> String {
        std::env::var("CROSSBAR_URL").expect("url")
    }
}
