#!/usr/bin/env bash
# Builds and runs all tests. `tests/run.sh sanitize` does so with clang, AddressSanitizer and UBSan.
set -euo pipefail
cd "$(dirname "$0")/.."
bash runtime/packages.sh build run test
preset=${1:-release}
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset"
dir=build
[ "$preset" = release ] || dir=build/$preset
ctest --test-dir "$dir" --output-on-failure -j "$(nproc)" -LE long
