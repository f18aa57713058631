#!/usr/bin/env bash
# Gives targets of tests/fuzz to libFuzzer. Usage:
#
#   tests/fuzz/guided/run.sh [TARGET...]      all targets unless some are named
#
#   FUZZ_S=600   seconds each       FUZZ_JOBS=<cores>   targets at a time
#   FUZZ_DIR=target/fuzz            corpora (kept, so that the next run goes on from there), logs, findings
#
# Needs a C++ compiler beside cargo: libFuzzer is built from the crate libfuzzer-sys. The stable compiler
# does: coverage comes from LLVM's pass, and AddressSanitizer, which would need a nightly one, has little
# to find in code without `unsafe`. Fails if a target found something: its log names the input, and
#
#   RAFTCACHE_FUZZ_TARGET=<target> <the program that the log names> <input>
#
# plays it again.
set -euo pipefail
cd "$(dirname "$0")/../../.."

FUZZ_S="${FUZZ_S:-600}"
FUZZ_JOBS="${FUZZ_JOBS:-$(nproc)}"
FUZZ_DIR="${FUZZ_DIR:-target/fuzz}"
CARGO="${CARGO:-cargo}"
if ! command -v c++ > /dev/null; then
  echo "a C++ compiler (c++) is needed to build libFuzzer" >&2
  exit 2
fi

coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1)
# A target triple keeps the flags away from build scripts.
host="$(rustc -vV | sed -n 's/^host: //p')"
RUSTFLAGS="--cfg fuzzing ${coverage[*]}" "$CARGO" build --release --locked --target "$host" \
  --manifest-path tests/fuzz/guided/Cargo.toml --target-dir "$FUZZ_DIR/build"
program="$FUZZ_DIR/build/$host/release/guided"

targets=("$@")
if (( ${#targets[@]} == 0 )); then
  mapfile -t targets < <(sed -nE 's/^ {4}([a-z_]+): [a-z_:]+,$/\1/p' tests/fuzz/targets/mod.rs)
fi

one() {
  local target="$1" corpus="$FUZZ_DIR/corpus/$1" found="$FUZZ_DIR/found/$1" log="$FUZZ_DIR/$1.log"
  mkdir -p "$corpus" "$found"
  local status=0
  RAFTCACHE_FUZZ_TARGET="$target" RAFTCACHE_FUZZ_SOUND="$corpus" "$program" "$corpus" \
    -max_total_time="$FUZZ_S" -max_len=65536 -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$found/" > "$log" 2>&1 || status=$?
  local runs covered
  runs="$(sed -nE 's/^stat::number_of_executed_units: *//p' "$log")"
  covered="$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 || true)"
  if (( status == 0 )); then
    echo "$target: ${runs:-?} inputs, ${covered:-no coverage}, no finding"
  else
    echo "$target: FINDING (status $status), see $log and $found/"
  fi
  return "$status"
}
export -f one
export FUZZ_S FUZZ_DIR program
printf '%s\n' "${targets[@]}" | xargs -P "$FUZZ_JOBS" -I{} bash -c 'one "$1"' _ {}
