//! Armv6-M to Armv8-M: vector table, start, semihosting. The floating-point unit stays off, so that a floating-point instruction faults.

use core::arch::{asm, global_asm};

global_asm!(
    ".section .vectors, \"a\"",
    ".word _stack_top",
    ".word _start",
    ".rept 14",
    ".word fault",
    ".endr",
    ".text",
    ".thumb_func",
    ".global _start",
    "_start:",
    "ldr r0, =_bss_start",
    "ldr r1, =_bss_end",
    "movs r2, #0",
    "1: cmp r0, r1",
    "bhs 2f",
    "str r2, [r0]",
    "adds r0, #4",
    "b 1b",
    "2: bl rust_main",
    ".thumb_func",
    ".global fault",
    "fault:",
    "movs r0, #99",
    "bl fault_exit",
    ".ltorg",
);

pub fn call(operation: u32, argument: *const u32) -> u32 {
    let result;
    // SAFETY: a semihosting call reads and writes only what the argument points to, which the callers below own.
    unsafe { asm!("bkpt 0xab", inlateout("r0") operation => result, in("r1") argument) };
    result
}
