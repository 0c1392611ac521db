#!/usr/bin/env bash
# From a fresh clone on Debian 12 to a GPT that has learnt English: installs what is missing, builds the
# binary, trains until the validation loss is well below the bigram entropy of the text, shows a sample.
# GRADC_QUICKSTART_STEPS=N stops after N steps, for a quick look that all of it works.
set -euo pipefail
cd "$(dirname "$0")/.."
bash runtime/packages.sh build run
cmake --preset binary >/dev/null
cmake --build --preset binary
texts=()
for f in /usr/share/games/fortunes/*; do
  case $f in *.dat | *.u8) ;; *) texts+=("$f") ;; esac
done
build/gradc train frontend/models/gpt.grad --data "${texts[@]}" --out out/gpt \
  --steps "${GRADC_QUICKSTART_STEPS:-3000}" --log-every 25 --validate-every 100
echo "Trained weights are in out/gpt. More text: build/gradc sample frontend/models/gpt.grad --checkpoint out/gpt"
