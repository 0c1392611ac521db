#!/usr/bin/env bash
# Writes the README's outputs anew from the binary in build/.
set -euo pipefail
cd "$(dirname "$0")/.."
BLESS=1 build/tests/test_runtime -tc="README*"
