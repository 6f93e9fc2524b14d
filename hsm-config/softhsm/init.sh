#!/usr/bin/env bash
# Makes a SoftHSM token with random PINs, and prints the [[hsm]] section for it.
#
#   hsm-config/softhsm/init.sh DIR [LABEL]
#
# In DIR (made if absent) will be: tokens/, softhsm2.conf, user.pin and so.pin (mode 0600). Run it as the user that
# runs Hallmark. Refuses a DIR that has a token already: making it anew would erase the keys.
set -euo pipefail
umask 077

[[ $# -ge 1 ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 64; }
readonly LABEL=${2:-hallmark}
for command in pkcs11-tool od; do
    command -v "$command" >/dev/null || { echo "error: no \`$command\`; hint: apt-get install opensc" >&2; exit 69; }
done
module=
for candidate in ${SOFTHSM2_MODULE:-} /usr/lib/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so; do
    [[ -e $candidate ]] && module=$candidate && break
done
[[ $module ]] || { echo "error: SoftHSM was not found; hint: apt-get install softhsm2" >&2; exit 69; }

mkdir -p "$1"
dir=$(cd "$1" && pwd)
[[ ! -e $dir/tokens ]] || { echo "error: there is a token already: \`$dir/tokens\`; hint: choose another folder" >&2; exit 73; }
mkdir "$dir/tokens"
export SOFTHSM2_CONF=$dir/softhsm2.conf
printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n' \
    "$dir/tokens" >"$SOFTHSM2_CONF"

# 64 random bits each: no PIN that a tool or a manual knows.
random_pin() { od -An -N8 -tx1 /dev/urandom | tr -d ' \n'; }
random_pin >"$dir/user.pin"
random_pin >"$dir/so.pin"
# By environment: a command line is visible to every user of the machine.
USER_PIN=$(<"$dir/user.pin") SO_PIN=$(<"$dir/so.pin")
export USER_PIN SO_PIN
pkcs11-tool --module "$module" --slot-index 0 --init-token --label "$LABEL" --so-pin env:SO_PIN >/dev/null 2>&1 ||
    { echo "error: the token was not initialised; hint: run \`SOFTHSM2_CONF=$SOFTHSM2_CONF pkcs11-tool --module $module -L\`, then remove \`$dir\`" >&2; exit 70; }
pkcs11-tool --module "$module" --token-label "$LABEL" --login --login-type so --so-pin env:SO_PIN \
    --init-pin --new-pin env:USER_PIN >/dev/null 2>&1 ||
    { echo "error: the user PIN was not set; hint: remove \`$dir\` and try again" >&2; exit 70; }

cat <<TOML
[[hsm]]
name = "main"
module = "$module"
module_env = { SOFTHSM2_CONF = "$SOFTHSM2_CONF" }
token_label = "$LABEL"
pin_source = "file:$dir/user.pin"
TOML
