#!/usr/bin/env bash
# Builds the fuzz targets, on the pinned stable toolchain, and runs each for some seconds: scripts/fuzz.sh [SECONDS] [TARGET ...]
#
# New inputs stay in the target folder; what crashes is left in fuzz/artifacts and ends with an error. A crash that was mended goes
# into fuzz/corpus, which the test suite replays.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../fuzz"

readonly SECONDS_EACH=${1:-10}
shift || true
TRIPLE=$(rustc -vV | awk '/^host:/ { print $2 }')
readonly TRIPLE
readonly TARGET=${CARGO_TARGET_DIR:-target}

# As cargo-fuzz has it. With a target named, build scripts and macros are built without.
export RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# The flags of sanitizers are not stable; the toolchain is.
export RUSTC_BOOTSTRAP=1
# SQLite's C file has two local tables of one name, which the runtime takes for one symbol defined twice.
export ASAN_OPTIONS="detect_odr_violation=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
cargo build --release --target "$TRIPLE" --bins

targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  for file in fuzz_targets/*.rs; do
    targets+=("$(basename "$file" .rs)")
  done
fi
mkdir -p artifacts
for target in "${targets[@]}"; do
  found=$TARGET/corpus/$target
  mkdir -p "$found"
  echo "fuzzing: $target, for $SECONDS_EACH s"
  "$TARGET/$TRIPLE/release/$target" -max_total_time="$SECONDS_EACH" -timeout=10 -rss_limit_mb=1024 -max_len=66000 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="artifacts/$target-" "$found" "corpus/$target"
done
