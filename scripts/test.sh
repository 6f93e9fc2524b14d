#!/usr/bin/env bash
# Runs the whole test suite and closes with one line: N passed, N failed, N skipped.
#
# The output goes to a file that is shown as it grows, not through a pipe: a child process that a test
# leaves behind would hold a pipe open, and the run would never end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly LOG=${CARGO_TARGET_DIR:-target}/test.log
mkdir -p "$(dirname "$LOG")"
readonly CARD_LOG=${LOG%.log}-virtual-yubikey.log
: >"$LOG" # `tail` may be quicker than what writes it
[[ ! -t 1 ]] || export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}

card='' tests=''
# shellcheck disable=SC2086 # one process id each, or none
trap 'kill $card $tests 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

# The tests' virtual YubiKey, and its own tests, beside the rest; on a first run either takes minutes.
scripts/virtual-yubikey.sh test >"$CARD_LOG" 2>&1 </dev/null &
card=$!
cargo test --workspace --no-run "$@"
card_status=0
wait "$card" || card_status=$?
if [[ $card_status -ne 0 ]]; then
  cat "$CARD_LOG"
  printf 'error: the virtual YubiKey fails; tests that need it say so\nhint: scripts/virtual-yubikey.sh test\n' >&2
fi

cargo test --workspace --no-fail-fast "$@" >"$LOG" 2>&1 </dev/null &
tests=$!
tail -n +1 -f -s 0.2 --pid="$tests" "$LOG"
status=0
wait "$tests" || status=$?
[[ $status -ne 0 ]] || status=$card_status
trap - EXIT

awk '
  / passed; .* failed; .* ignored/ {
    for (i = 2; i <= NF; i++) {
      if ($i == "passed;") passed += $(i - 1)
      if ($i == "failed;") failed += $(i - 1)
      if ($i == "ignored;") skipped += $(i - 1)
    }
  }
  END { printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped }
' "$LOG" "$CARD_LOG"
exit "$status"
