//! How the binary is linked.

use std::env::var;
use std::process::Command;

/// The first GNU C library whose loader reads packed relocations.
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The loader reads every relocation at each start, and those pages stay in memory: six mebibytes as they are, less
    // than a tenth of one when packed. A binary that is built for another machine stays as it is.
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    let here = var("HOST").is_ok_and(|host| is("TARGET", &host));
    if here
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && loader_reads_packed()
    {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// True when this machine's C library is known to be new enough.
fn loader_reads_packed() -> bool {
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers =
        text.trim().trim_start_matches("glibc ").split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= PACKED_SINCE
}
