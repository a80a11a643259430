//! Output, arguments and exit code through a debugger or QEMU.

use crate::chip::call;

pub fn exit(code: u32) -> ! {
    let block = [0x20026, code]; // ADP_Stopped_ApplicationExit
    call(0x20, block.as_ptr()); // SYS_EXIT_EXTENDED
    loop {}
}

pub fn write(text: &[u8]) {
    // SYS_WRITE0 takes text that ends with a zero.
    let mut piece = [0u8; 65];
    for part in text.chunks(64) {
        piece[..part.len()].copy_from_slice(part);
        piece[part.len()] = 0;
        call(0x04, piece.as_ptr().cast());
    }
}

/// The command line behind the program's name.
pub fn arguments(line: &mut [u8; 512]) -> &str {
    let block = [line.as_mut_ptr() as u32, line.len() as u32];
    if call(0x15, block.as_ptr()) != 0 {
        return ""; // SYS_GET_CMDLINE
    }
    let end = line.iter().position(|b| *b == 0).unwrap_or(0);
    let all = core::str::from_utf8(&line[..end]).unwrap_or("");
    all.split_once(' ').map_or("", |(_, rest)| rest)
}

#[no_mangle]
extern "C" fn fault_exit(code: u32) -> ! {
    exit(code)
}
