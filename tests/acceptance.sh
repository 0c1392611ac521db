#!/usr/bin/env bash
# Runs what a milestone promises and prints a line for each promise: requirement | figure | held or SHORT.
#
#   tests/acceptance.sh path     from a .grad file to a GPT trained on real text
#   tests/acceptance.sh fusion   attention, norms and their kin recognised, differentiated, planned
#   tests/acceptance.sh speed    a step beside its peers and beside what the machine can do
#   tests/acceptance.sh speed-tests   the part of it that needs no quiet machine
#
# What compares with peers needs them: `tests/bench/compare.py --install` once, or a Python that has them in PEER_PYTHON
# (PEERS: another script than tests/bench/peers.py). Without, its lines say so and count as short.
set -uo pipefail
cd "$(dirname "$0")/.."
name=${1:-}
[ -f "tests/acceptance/$name.sh" ] || { sed -n 's/^# \{0,1\}//p' "$0" | head -10; exit 2; }

gradc=build/gradc
gpt=frontend/models/gpt.grad
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GRADC_CACHE_DIR=$work/cache
no_peers="no peers: tests/bench/compare.py --install"
short=0
texts=()
for f in /usr/share/games/fortunes/*; do case $f in *.dat | *.u8) ;; *) texts+=("$f") ;; esac; done

line() {  # line HELD(0/1) REQUIREMENT FIGURE
  local word=held
  [ "$1" = 1 ] || { word=SHORT; short=1; }
  printf '%-86s | %-46s | %s\n' "$2" "$3" "$word"
}
seconds() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.2f", b - a }'; }
peers() { [ -x "${PEER_PYTHON:-build/peers/bin/python}" ]; }
ask() { tests/bench/figures.py "$@" 2>"$work/asked" || { echo "? $(tail -1 "$work/asked" | cut -c1-60)"; false; }; }
holds() { awk "BEGIN { exit !($1) }" && echo 1 || echo 0; }

doctest() {  # doctest BINARY PATTERN: passes if some case ran and none failed
  "build/tests/test_$1" -tc="$2" >"$work/doctest" 2>&1 && grep -Eq 'test cases: *[1-9]' "$work/doctest"
}
cases() { sed -n 's/.*test cases: *\([0-9]*\).*/\1/p' "$work/doctest" | tail -1; }
figures() { grep -hoE "$1.*" "$work/doctest" | tail -1 | cut -c1-46; }

# shellcheck source=/dev/null
. "tests/acceptance/$name.sh"
exit $short
