"""Runs a program that was built with BITNET_MAILBOX in the labwired emulator: run_labwired.py PROGRAM CHIP.

Prints what the program wrote, ends with its status. The emulator executes the portable instructions only: no DSP kernels."""
import sys

import labwired

MOST_MS = 600000  # of emulated time

sim = labwired.Sim(sys.argv[1], chip=sys.argv[2])
box = sim.symbol("bitnet_mailbox")
for _ in range(MOST_MS // 10):
    sim.run_for("10ms")
    if sim.read_u32(box) != 0:
        break
else:
    sys.exit("the program did not end")
length = sim.read_u32(box + 8)
sys.stdout.write(bytes(sim.read_memory(box + 12, length)).decode("ascii"))
sys.exit(sim.read_u32(box + 4))
