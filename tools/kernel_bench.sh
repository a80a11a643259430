#!/bin/sh
# kernel_bench.sh DIR [BUILD] - instructions per weight of each LINEAR kernel on an emulated Cortex-M7.
# DIR holds runtime/ and ports/; needs arm-none-eabi-gcc, qemu-system-arm, cc.
set -e
D=${1:-.}; B=${2:-build/kernel-bench}; T=$(dirname "$0"); mkdir -p "$B"
cc -shared -fPIC -O2 -o "$B/inscount.so" "$T/inscount.c"
arm-none-eabi-gcc -std=c99 -O2 -mcpu=cortex-m7 -mthumb -mfloat-abi=soft -ffreestanding -fno-builtin -fno-tree-loop-distribute-patterns \
  -nostdlib -nostartfiles -static $EXTRA -DBITNET_TARGET_QEMU \
  -I"$D" -I"$D/runtime" -I"$D/ports" -L"$D/ports" -T "$D/ports/mps2-an500.ld" -Wl,--gc-sections -ffunction-sections \
  "$D"/runtime/bitnet_math.c "$D"/runtime/bitnet_ops.c "$D"/runtime/bitnet_kernels.c "$D"/runtime/bitnet_linear.c "$D"/ports/port_semihosting.c "$T/../tests/c/bench_kernels.c" \
  -o "$B/bench.elf"
one() { # name, arguments; two runs with 1 and 2 repetitions separate building from use
  for n in 1 2; do
    qemu-system-arm -M mps2-an500 -display none -monitor none -serial null -chardev stdio,id=out -plugin "$B/inscount.so,out=$B/$n.txt" \
      -semihosting-config enable=on,target=native,chardev=out,arg=q,arg="$2 $n" -kernel "$B/bench.elf" > "$B/result.txt"
    grep -q equal "$B/result.txt" || { echo "$1: differs"; return; }
  done
  awk -v name="$1" -v args="$2" 'FNR == 1 { f++ } $2 ~ /^(bn_linear|block|lut_|bn_lut|bn_subset|bn_planes|bn_by_rows|by_tables|subset_|planes_|select_|rows_|row_|wide|finish|grouped|range_total|bn_code_at|bn_[a-z_]*scale|bn_norm|bn_exp_add)/ { s[f] += $1 }
    END { split(args, a, " "); n = a[4] * a[5]; printf "%-44s %10d first %8.3f insn/weight, again %8.3f\n", name, s[1], s[1] / n, (s[2] - s[1]) / n }' "$B/1.txt" "$B/2.txt"
}
one "tables binary i8 512x512"            "1 8 2 512 512 32768 127"
one "tables ternary i8 512x512"           "2 8 2 512 512 32768 127"
one "tables binary i8 512x512, 16 KB tiles" "1 8 2 512 512 16384 127"
one "tables binary i8 172x64"             "1 8 2 172 64 32768 127"
one "planes binary 512x512"               "1 8 1 512 512 0 2"
one "planes ternary 512x512"              "2 8 1 512 512 0 2"
one "select binary i8 512x512"            "1 8 0 512 512 0 127"
one "select ternary i8 512x512"           "2 8 0 512 512 0 127"
one "select binary i16 512x512"           "1 16 0 512 512 0 300"
one "select binary i8 64x64"              "1 8 0 64 64 0 127"
one "rows int8 x i8 256x512"              "3 8 0 256 512 0 127"
one "rows int8 x i16 256x512"             "3 16 0 256 512 0 16383"
one "rows int8 x i16 512x64"              "3 16 0 512 64 0 32767"
