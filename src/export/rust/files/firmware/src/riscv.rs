//! RV32IMC in QEMU's `virt`: start, trap handler, semihosting.

use core::arch::{asm, global_asm};

global_asm!(
    ".section .vectors, \"ax\"",
    ".global _start",
    "_start:",
    "la t0, trap",
    "csrw mtvec, t0",
    "la sp, _stack_top",
    "la t0, _bss_start",
    "la t1, _bss_end",
    "1: bgeu t0, t1, 2f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 1b",
    "2: call rust_main",
    ".balign 4",
    "trap:",
    "li a0, 99",
    "call fault_exit",
);

pub fn call(operation: u32, argument: *const u32) -> u32 {
    let result;
    // SAFETY: as on Arm; the three instructions must not be compressed and not cross a page.
    unsafe {
        asm!(
            ".option push",
            ".option norvc",
            ".balign 16",
            "slli zero, zero, 0x1f",
            "ebreak",
            "srai zero, zero, 7",
            ".option pop",
            inlateout("a0") operation => result,
            in("a1") argument,
        )
    };
    result
}
