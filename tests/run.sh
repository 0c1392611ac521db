#!/usr/bin/env bash
# Builds and runs all tests: tests/run.sh [PRESET …]; without one, release. `sanitize` is clang with
# AddressSanitizer and UBSan. Every preset has its turn and its summary, also behind one that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
bash runtime/packages.sh build run test
failed=()
for preset in "${@:-release}"; do
  dir=build
  [ "$preset" = release ] || dir=build/$preset
  cmake --preset "$preset" >/dev/null && cmake --build --preset "$preset" &&
    ctest --test-dir "$dir" --no-tests=error --output-on-failure -j "$(nproc)" -LE long ||
    failed+=("$preset")
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
