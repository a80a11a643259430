#!/bin/sh
# qemu_all.sh DIR MODEL... - the self-test of each model on the emulated Cortex-M7, with its own and with every forced kernel hint
D=$1; shift; T=$(cd "$(dirname "$0")" && pwd); bad=0; n=0
for m in "$@"; do
  for change in "" hint=0 hint=1 "hint=2 lut=2048" "hint=2 lut=16384"; do
    python3 "$T/reseal.py" "$m" "$D/model.bin" $change
    r=$(make -s -C "$D" run-qemu ARGS=selftest 2>&1 | tail -1)
    n=$((n + 1))
    [ "$r" = "selftest: equal" ] || { echo "$m $change: $r"; bad=1; }
  done
done
echo "$n runs"
exit $bad
