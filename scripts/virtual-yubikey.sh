#!/usr/bin/env bash
# The virtual YubiKey, a workspace of its own: scripts/virtual-yubikey.sh build|test|check
#
# A first build takes minutes, for the crypto of the card is optimised; after that, seconds. `HALLMARK_VIRTUAL_YUBIKEY`
# names a program that was built elsewhere; then `build` has nothing to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")/virtual-yubikey
export CARGO_TARGET_DIR
readonly MANIFEST=testkit/virtual-yubikey/Cargo.toml

build() {
  [[ -n ${HALLMARK_VIRTUAL_YUBIKEY:-} ]] || cargo build --locked --manifest-path "$MANIFEST"
}

case ${1:-} in
  build) build ;;
  test)
    build
    cargo test --locked --manifest-path "$MANIFEST"
    ;;
  check)
    cargo fmt --manifest-path "$MANIFEST" --check
    cargo clippy --locked --manifest-path "$MANIFEST" --all-targets -- -D warnings
    cargo deny --manifest-path "$MANIFEST" --config deny.toml check --hide-inclusion-graph \
      -A duplicate -A license-not-encountered -A license-exception-not-encountered bans licenses sources
    ;;
  *)
    printf 'usage: scripts/virtual-yubikey.sh build|test|check\n' >&2
    exit 64
    ;;
esac
