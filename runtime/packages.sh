#!/usr/bin/env bash
# Installs from runtime/packages.txt, the one list of what is needed: packages.sh build run test …
# Does nothing, and needs no rights, if all are there.
set -euo pipefail
list=$(dirname "$0")/packages.txt
wanted=()
for group in "$@"; do
  while read -r g name; do [ "$g" = "$group" ] && wanted+=("$name"); done < <(grep -v '^#' "$list")
done
missing=()
for p in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
echo "installing ${missing[*]}" >&2
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
