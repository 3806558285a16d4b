#!/bin/bash
# Runs tests as other machines would: other kernels, one core, two, and beside a busy neighbour.
#
#     tests/portability.sh [PYTHON]
#
# What depends on kernels runs once for each set of them, the fast part of the suite once for each set of cores. Every
# run is made, also after one has failed or taken longer than an hour; the status is 1 if any did.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${1:-.venv/bin/python}
log=$(mktemp -d)
cores=($("$python" -c 'import os; print(*sorted(os.sched_getaffinity(0))[:2])'))
neighbours=()
failed=0
summary=""
export OMP_WAIT_POLICY=PASSIVE

stop_neighbours() {
    [ ${#neighbours[@]} -eq 0 ] || kill "${neighbours[@]}" 2>"$log/kill"
    neighbours=()
}
trap 'stop_neighbours; rm -rf "$log"' EXIT
trap 'exit 130' INT TERM

# NAME, then the command that runs pytest, with variables and cores.
check() {
    local name=$1 start=$SECONDS verdict=ok
    shift
    echo "== $name"
    timeout --foreground --signal=INT --kill-after=60 1h "$@" -q -p no:cacheprovider || { verdict=FAILED; failed=1; }
    summary+=$(printf '%-8s %5d s  %s' "$verdict" $((SECONDS - start)) "$name")$'\n'
}

pytest=("$python" -m pytest -m "not slow and not soak")
parallel=(-n 2 --dist loadfile --max-worker-restart 0)
numeric=(tests/backbones tests/methods tests/reference tests/evaluation tests/cli/test_trainer.py tests/cli/test_precision.py)
two=$(IFS=,; echo "${cores[*]}")

# torch, oneDNN and MKL each choose their kernels by the processor, and each has a variable of its own.
check "kernels without AVX" \
    env ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OMP_NUM_THREADS=1 \
    "${pytest[@]}" "${parallel[@]}" "${numeric[@]}"
check "AVX2 kernels" \
    env ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OMP_NUM_THREADS=1 \
    "${pytest[@]}" "${parallel[@]}" "${numeric[@]}"
check "one core" taskset -c "${cores[0]}" "${pytest[@]}"
check "two cores, two threads" env OMP_NUM_THREADS=2 taskset -c "$two" "${pytest[@]}" "${parallel[@]}"
for _ in "${cores[@]}"; do
    # It ends with this script, and by itself if that is killed.
    taskset -c "$two" timeout 1h "$python" -c 'while True: pass' &
    neighbours+=($!)
done
check "a busy neighbour" taskset -c "$two" "${pytest[@]}" "${parallel[@]}"
stop_neighbours

echo
echo "$summary"
exit $failed
