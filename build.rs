//! Bakes the build architecture into the binary, as `-arch` prints it: `amd64`, `arm64`, `armv7`, `armv6`, `armv5`.
//! `REAGENT_ARCH` wins (cross builds set it, since a target triple does not always say which ARM it is).

fn main() {
    println!("cargo:rerun-if-env-changed=REAGENT_ARCH");
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    let arch =
        std::env::var("REAGENT_ARCH").ok().filter(|arch| !arch.is_empty()).unwrap_or_else(|| from_triple(&target));
    println!("cargo:rustc-env=REAGENT_ARCH={arch}");
}

fn from_triple(target: &str) -> String {
    let cpu = target.split('-').next().unwrap_or_default();
    match cpu {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7" => "armv7",
        "arm" => "armv6",
        "armv5te" => "armv5",
        "i686" | "i586" => "386",
        other => other,
    }
    .to_owned()
}
