#!/usr/bin/env bash
# Runs the whole test suite and closes with one line: N passed, N failed, N skipped.
#
# The output goes to a file that is shown as it grows, not through a pipe: a child process that a test
# leaves behind would hold a pipe open, and the run would never end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly LOG=${CARGO_TARGET_DIR:-target}/test.log
mkdir -p "$(dirname "$LOG")"
readonly TIMES=${LOG%.log}-times.log
readonly CARD_LOG=${LOG%.log}-virtual-yubikey.log
: >"$LOG" # `tail` may be quicker than what writes it
: >"$TIMES"
[[ ! -t 1 ]] || export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}

card='' tests='' scratch=''
# shellcheck disable=SC2086 # one process id each, or none
trap 'kill $card $tests 2>/dev/null || true; [[ -z $scratch ]] || rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# Databases, audit logs and tokens sync all the time. In memory that is as quick where the disk is busy.
readonly MEMORY=/dev/shm ENOUGH_KIB=$((4 * 1024 * 1024))
if [[ -z ${TMPDIR:-} && -w $MEMORY ]] && (($(df --output=avail "$MEMORY" | tail -n 1) > ENOUGH_KIB)); then
  scratch=$(mktemp -d "$MEMORY/hallmark.XXXXXX")
  chmod 1777 "$scratch" # as /tmp: where root runs the tests, the databases are another user's
fi

# Shows what it reads, and notes how long each test was waited for.
clock() {
  local line before=$SECONDS
  while IFS= read -r line; do
    printf '%s\n' "$line"
    [[ $line == 'test '*' ... '* ]] || continue
    printf '%5d %s\n' $((SECONDS - before)) "$line" >>"$TIMES"
    before=$SECONDS
  done
}

# For how long processes waited for a processor, the disk and memory, in seconds since the machine started.
stalled() {
  awk -F 'total=' '/^some/ { n = split(FILENAME, path, "/"); printf "%s %d ", path[n], $2 / 1e6 }' \
    /proc/pressure/{cpu,io,memory} 2>/dev/null || true
}

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

stalled_before=$(stalled)
env ${scratch:+TMPDIR="$scratch"} cargo test --workspace --no-fail-fast "$@" >"$LOG" 2>&1 </dev/null &
tests=$!
tail -n +1 -f -s 0.2 --pid="$tests" "$LOG" | clock
status=0
wait "$tests" || status=$?
[[ $status -ne 0 ]] || status=$card_status
tests='' card=''

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
printf 'longest waits for a test to end, in seconds:\n'
sort -rn "$TIMES" | sed -n 1,8p
printf 'processes waited, in seconds before and after: %s-> %s\n' "$stalled_before" "$(stalled)"
exit "$status"
