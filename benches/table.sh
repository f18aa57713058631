#!/usr/bin/env bash
# The table of docs/performance.md: three nodes as three processes on this machine, the load
# generator beside them. `make bench-table` runs it; about a minute and a half for each
# durability. Needs python3.
#
#   DURABILITIES="memory wal"  CALLERS="1 64 256 1000"  DURATION_S=4  benches/table.sh
set -euo pipefail
cd "$(dirname "$0")/.."

binary="${BINARY:-target/release/raftcache}"
run_dir="${RUN_DIR:-$(mktemp -d)}"
read -r -a durabilities <<< "${DURABILITIES:-memory wal}"
read -r -a callers <<< "${CALLERS:-1 64 256 1000}"
duration_s="${DURATION_S:-4}"

stop() { make --silent stop-cluster RUN_DIR="$run_dir" >&2 || true; }
trap stop EXIT

# field JSON PATH...: a number out of the generator's report.
field() { python3 -c 'import functools, json, sys
print(round(functools.reduce(lambda o, k: o[k], sys.argv[2:], json.loads(sys.argv[1]))))' "$@"; }

echo "| durability | call | operation | callers | operations/s | p50 us | p99 us | failed |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
for durability in "${durabilities[@]}"; do
  make --silent start-cluster RUN_DIR="$run_dir" DURABILITY="$durability" >&2
  for mode in unary pipeline; do
    for op in set get; do
      for n in "${callers[@]}"; do
        # It exits with 1 if an operation failed, which the table tells.
        report="$("$binary" bench --mode "$mode" --op "$op" --callers "$n" --warmup 1 \
          --duration "$duration_s" --json 2> /dev/null)" || true
        echo "| $durability | $mode | $op | $n | $(field "$report" operations_per_second)" \
          "| $(field "$report" latency_us p50) | $(field "$report" latency_us p99)" \
          "| $(field "$report" errors) |"
      done
    done
  done
  stop
done
