//! The commands of the model on a microcontroller or in QEMU. The library has no unsafe code; what is unsafe about a chip is here:
//! the start, the fault handler, semihosting, and the one place that hands out the static memory.
#![no_std]
#![no_main]

#[cfg(target_arch = "arm")]
#[path = "arm.rs"]
mod chip;
#[cfg(target_arch = "riscv32")]
#[path = "riscv.rs"]
mod chip;
mod semihosting;

use bitnet_model::{commands, generated};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;

/// Everything that the model writes to.
struct Room {
    arena: generated::ModelArena,
    results: [i32; generated::RESULTS],
    ids: [u32; commands::MAX_IDS],
    work: [u32; generated::TOKENIZER_WORK],
}

struct Once(UnsafeCell<Room>);

// SAFETY: there is one core and no interrupt handler that uses it.
unsafe impl Sync for Once {}

static ROOM: Once = Once(UnsafeCell::new(Room {
    arena: generated::ModelArena::new(),
    results: [0; generated::RESULTS],
    ids: [0; commands::MAX_IDS],
    work: [0; generated::TOKENIZER_WORK],
}));

/// Called once by the start code of the chip.
#[no_mangle]
extern "C" fn rust_main() -> ! {
    // SAFETY: this is the only reference to the room, and this function runs once.
    let room = unsafe { &mut *ROOM.0.get() };
    let mut line = [0; 512];
    let command = semihosting::arguments(&mut line);
    let bench = commands::Bench {
        memory: room.arena.memory(),
        results: &mut room.results,
        ids: &mut room.ids,
        work: &mut room.work,
    };
    let code = commands::run(command, generated::IMAGE, bench, &mut semihosting::write);
    semihosting::exit(code as u32)
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    semihosting::exit(98)
}
