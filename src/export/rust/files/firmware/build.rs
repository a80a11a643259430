//! Where the linker finds the memory of the machine: `BITNET_MACHINE` names a file in `ld/` (see the Makefile).

fn main() {
    let machine = std::env::var("BITNET_MACHINE").unwrap_or_else(|_| "mps2".into());
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default() + "/ld";
    println!("cargo:rustc-link-arg=-L{folder}");
    println!("cargo:rustc-link-arg=-T{machine}.ld");
    println!("cargo:rerun-if-env-changed=BITNET_MACHINE");
    println!("cargo:rerun-if-changed=ld");
}
