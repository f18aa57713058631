#!/usr/bin/env bash
# Runs every test of the workspace, whatever fails, and ends with a summary: seconds and counts of each
# test binary, and the name of each test that failed. Arguments go to `cargo test`.
set -uo pipefail
cd "$(dirname "$0")/.."

output="$(mktemp)"
trap 'rm -f "$output"' EXIT
started=$SECONDS

# cargo names each binary on standard error; both streams together keep the order of what happens.
"${CARGO:-cargo}" test --workspace --locked --no-fail-fast "$@" 2>&1 | tee "$output"
status=${PIPESTATUS[0]}

echo
echo "== summary"
awk '
  # "     Running unittests src/lib.rs (target/debug/deps/x-0)", "   Doc-tests x"
  /^ +Running .*\(.*\)$/ { sub(/^ +Running (unittests )?/, ""); sub(/ \([^()]*\)$/, ""); binary = $0; next }
  /^ +Doc-tests / { binary = "doc tests of " $2; next }
  /^test .* \.\.\. FAILED$/ { name = $0; sub(/^test /, "", name); sub(/ \.\.\. FAILED$/, "", name)
                             failed[++failures] = binary ": " name; next }
  /^test result: / {
    seconds = $0; sub(/.*finished in /, "", seconds); sub(/s$/, "", seconds)
    counts = $0; sub(/^test result: [A-Za-z]+\. /, "", counts); sub(/; [0-9]+ measured.*/, "", counts)
    if (counts !~ /^0 passed; 0 failed; 0 ignored/) printf "%9.1f s  %-32s %s\n", seconds, binary, counts
    split(counts, n, " "); passed += n[1]; wrong += n[3]; ignored += n[5]; next
  }
  # A binary that did not come to its result.
  /^error: test failed, to rerun pass / || /^  *process didn.t exit successfully/ { ended[++ends] = $0; next }
  END {
    printf "%d passed, %d failed, %d ignored\n", passed, wrong, ignored
    for (i = 1; i <= failures; i++) print "FAILED " failed[i]
    for (i = 1; i <= ends; i++) print ended[i]
  }
' "$output"
echo "$((SECONDS - started)) s in all, building included; exit code $status"
exit "$status"
