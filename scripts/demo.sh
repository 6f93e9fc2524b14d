#!/usr/bin/env bash
# The whole way of an assertion, on this machine only: keys in a software token, Hallmark in front of it,
# and a real authorization server that reads our JWKS and hands out access tokens.
#
# `make demo` installs and builds what this needs. It takes seconds, and leaves nothing behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly HALLMARK=${HALLMARK:-${CARGO_TARGET_DIR:-target}/release/hallmark}
readonly NODE=tests/verifiers/.venv/bin/node
readonly SCOPE=system/Patient.rs
readonly CLIENTS=(demo-rs384:RS384 demo-es384:ES384)

main() {
  check_installed
  start_authorization_server
  start_hallmark
  local client
  for client in "${CLIENTS[@]}"; do
    register "${client%%:*}"
  done
  for client in "${CLIENTS[@]}"; do
    sign "${client%%:*}"
    request_token "${client%%:*}"
  done
  stop_all
  [[ ! -e $dir ]] || fail "hallmark left its directory behind: \`$dir\`" "remove it: rm -r $dir"
  step "done: ${#CLIENTS[@]} clients, ${#CLIENTS[@]} access tokens; everything is stopped and removed"
}

check_installed() {
  [[ -x $HALLMARK ]] || fail "not built: \`$HALLMARK\`" "run: make demo"
  [[ -x $NODE && -d tests/verifiers/node_modules ]] || fail "the verifier is not installed" "run: make demo"
  work=$(mktemp -d "${TMPDIR:-/tmp}/hallmark-demo.XXXXXX")
  touch "$work"/{verifier,hallmark}.out
  trap stop_all EXIT
  trap 'exit 130' INT TERM
}

start_authorization_server() {
  step "starting an authorization server (oidc-provider)"
  "$NODE" tests/verifiers/oidc-provider.mjs >"$work/verifier.out" 2>"$work/verifier.err" </dev/null &
  verifier_pid=$!
  wait_until_ready "the authorization server" "$verifier_pid" "$work/verifier.out"
  token_endpoint=$(field "$work/verifier.out" token_endpoint)
  control=$(field "$work/verifier.out" control)
  say "token endpoint  $token_endpoint"
}

start_hallmark() {
  step "starting hallmark with a fresh software token, and waiting for its keys"
  local options=(--ephemeral --json --token-endpoint "$token_endpoint") client
  for client in "${CLIENTS[@]}"; do
    options+=(--client "$client")
  done
  "$HALLMARK" dev "${options[@]}" >"$work/hallmark.out" 2>"$work/hallmark.err" </dev/null &
  hallmark_pid=$!
  wait_until_ready "hallmark" "$hallmark_pid" "$work/hallmark.out"
  connection=$(field "$work/hallmark.out" connection)
  dir=$(field "$work/hallmark.out" dir)
  say "gRPC            $(field "$work/hallmark.out" grpc)"
}

# What an administrator does once: tells the authorization server a client's id, algorithm and JWKS URL.
register() {
  step "registering $1 at the authorization server"
  jwks_urls[$1]=$(field "$work/hallmark.out" jwks_url "$1")
  client_ids[$1]=$(field "$work/hallmark.out" client_id "$1")
  [[ -n ${jwks_urls[$1]} && -n ${client_ids[$1]} ]] ||
    fail "hallmark did not name the client: \`$1\`" "its first line is below" "$work/hallmark.out"
  "$NODE" --input-type=module - "$control/clients" "${client_ids[$1]}" "${jwks_urls[$1]}" \
    "$(field "$work/hallmark.out" alg "$1")" "$SCOPE" >"$work/register.out" 2>&1 <<'JS' ||
    const [url, client_id, jwks_uri, alg, scope] = process.argv.slice(2);
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ client_id, jwks_uri, alg, scope });
    const answer = await fetch(url, { method: 'POST', headers, body });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
JS
    fail "cannot register the client: \`$1\`" "the reason is below" "$work/register.out"
  say "JWKS            ${jwks_urls[$1]}"
}

sign() {
  step "signing an assertion for $1"
  hallmark "$work/sign.out" sign "$1" --connection "$connection" --json
  "$NODE" --input-type=module - "$work/sign.out" <<'JS'
    import { readFileSync } from 'node:fs';
    const { assertion } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
    const [header, claims, signature] = assertion.split('.');
    for (const [name, part] of Object.entries({ header, claims })) {
      const members = JSON.parse(Buffer.from(part, 'base64url'));
      console.log(`    ${name}`);
      for (const [key, value] of Object.entries(members)) console.log(`      ${key.padEnd(10)}${JSON.stringify(value)}`);
    }
    console.log(`    signature\n      ${Buffer.from(signature, 'base64url').length} bytes, made inside the token`);
JS
}

request_token() {
  step "requesting an access token for $1"
  hallmark "$work/token.out" token "$1" --scope "$SCOPE" --connection "$connection" --json
  local status access_token
  status=$(field "$work/token.out" status)
  access_token=$(field "$work/token.out" access_token)
  [[ $status == 200 && -n $access_token ]] ||
    fail "the authorization server answered: \`$status\`" "its reason is in the last \`refused\` line below"
  say "status          $status"
  say "access token    ${access_token:0:12}… ($(field "$work/token.out" token_type)," \
    "$(field "$work/token.out" expires_in) s)"
  expect_event "{\"event\":\"jwks_fetch\",\"url\":\"${jwks_urls[$1]}\",\"status\":200}"
  expect_event "{\"event\":\"token_issued\",\"client_id\":\"${client_ids[$1]}\"}"
  say "verified with   the JWKS that it fetched from ${jwks_urls[$1]}"
}

# Runs one hallmark command with its answer in a file, and stops the demo if it fails.
hallmark() {
  local answer=$1
  shift
  timeout 30 "$HALLMARK" "$@" >"$answer" 2>"$work/command.err" </dev/null ||
    fail "this failed: \`$HALLMARK $*\`" "its words, and those of both servers, are below" "$work/command.err"
}

wait_until_ready() {
  local what=$1 pid=$2 output=$3 deadline=$((SECONDS + 60))
  # Without its line end a line is not whole yet, and `read` says so.
  until read -r _ <"$output"; do
    kill -0 "$pid" 2>/dev/null || fail "$what ended before it was ready" "its last words are below"
    ((SECONDS < deadline)) || fail "$what was not ready within 60 s" "its last words are below"
    sleep 0.05
  done
}

expect_event() {
  local deadline=$((SECONDS + 5))
  until grep -Fq "$1" "$work/verifier.out"; do
    ((SECONDS < deadline)) || fail "the authorization server never reported: \`$1\`" "its events are below"
    sleep 0.05
  done
}

# field FILE MEMBER [CLIENT]: a member of the JSON object on a file's first line, or of the client of that
# name in it; empty if it is not there.
field() {
  "$NODE" -e '
    const [file, member, client] = process.argv.slice(1);
    const object = JSON.parse(require("fs").readFileSync(file, "utf8").split("\n", 1)[0]);
    const owner = client ? object.clients.find(({ name }) => name === client) : object;
    console.log(owner?.[member] ?? "");
  ' "$@"
}

# Both servers are asked to stop, hallmark first, and are waited for.
stop_all() {
  trap - EXIT
  stop "$hallmark_pid"
  stop "$verifier_pid"
  rm -rf "$work"
}

stop() {
  local tries=0
  [[ -n $1 ]] || return 0
  kill "$1" 2>/dev/null || true
  while kill -0 "$1" 2>/dev/null; do
    ((tries += 1))
    ((tries < 100)) || kill -9 "$1" 2>/dev/null || true
    sleep 0.1
  done
  wait "$1" 2>/dev/null || true
}

step() { printf '==> %s\n' "$*"; }
say() { printf '    %s\n' "$*"; }

# Says what happened and what to do next, and shows the last lines of every log.
fail() {
  local message=$1 hint=$2 log
  printf 'error: %s\nhint: %s\n' "$message" "$hint" >&2
  if [[ -d $work ]]; then
    for log in "${@:3}" "$work"/{hallmark.err,verifier.err,verifier.out}; do
      [[ -s $log ]] || continue
      printf -- '--- last lines of %s\n' "${log##*/}" >&2
      tail -n 15 "$log" >&2
    done
    printf -- '---\nto look closer, run: %s dev\n' "$HALLMARK" >&2
  fi
  exit 1
}

work='' verifier_pid='' hallmark_pid='' token_endpoint='' control='' connection='' dir=''
declare -A jwks_urls client_ids

main "$@"
