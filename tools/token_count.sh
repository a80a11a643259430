#!/bin/sh
# token_count.sh DIR MODEL ID_LIST_SHORT ID_LIST_LONG - instructions, by function, that the ids of the longer list cost more
# (lists differ by one body token). DIR holds Makefile, runtime/, ports/ and bitnet_sizes.h for the model.
set -e
D=$1; B=/tmp/bitnet-token; T=$(cd "$(dirname "$0")" && pwd); mkdir -p $B
cc -shared -fPIC -O2 -o $B/inscount.so "$T/inscount.c"
cp "$2" "$D/model.bin"
make -C "$D" TARGET=qemu B=$B/build > $B/make.log 2>&1 || { tail -5 $B/make.log; exit 1; }
run() {
  qemu-system-arm -M mps2-an500 -display none -monitor none -serial null -chardev stdio,id=out -plugin $B/inscount.so,out=$B/$1.txt \
    -semihosting-config enable=on,target=native,chardev=out,arg=q,arg="token $(echo "$2" | sed 's/,/,,/g')" -kernel $B/build/qemu.elf
}
run a "$3"; run b "$4"
awk 'FNR == NR { a[$2] = $1; next } { d = $1 - a[$2]; if (d > 0) print d, $2 }' $B/a.txt $B/b.txt | sort -rn | head -${5:-14}
