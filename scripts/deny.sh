#!/usr/bin/env bash
# Checks the dependencies against deny.toml; advisories only where a database of them is at hand.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly DATABASES=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs

cargo deny check --hide-inclusion-graph bans licenses sources
if compgen -G "$DATABASES/*/.git" >/dev/null; then
  cargo deny --offline check advisories
else
  echo "not run: advisories: no advisory database on this machine"
fi
