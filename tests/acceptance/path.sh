# From a .grad file to a GPT trained on real text; read by tests/acceptance.sh.
# ---- build and tests
begin=$(seconds)
if bash tests/run.sh >"$work/tests" 2>&1; then ok=1; else ok=0; fi
line $ok "all tests pass (quick suite, release)" "$(grep -E 'tests passed|tests failed' "$work/tests" | tail -1 | cut -c1-46)"
suite=$(sed -n 's/^Total Test time (real) = *\([0-9.]*\).*/\1/p' "$work/tests" | tail -1)
line "$(holds "${suite:-999} <= 120")" "the quick suite takes at most 120 s" "${suite:-?} s"

# ---- parity
doctest runtime 'parity in the interpreter*' && ok=1 || ok=0
line $ok "interpreter: PyTorch's logits to 1e-12, gradients to 1e-10, six models" "$(cases) cases"
doctest runtime 'parity*compiled*' && ok=1 || ok=0
line $ok "compiled GPT-2, LSTM, RNN: logits, gradients, losses within 3x PyTorch's f32 error; 57 + 12 + 12 tensors" "$(cases) cases"

# ---- gradcheck
begin=$(seconds)
$gradc gradcheck $gpt >"$work/gradcheck" 2>&1 && ok=1 || ok=0
took=$(since "$begin")
[ "$(holds "$took <= 10")" = 1 ] || ok=0
line $ok "gradcheck of gpt.grad: every tensor, relative 1e-6, within 10 s" "$(tail -1 "$work/gradcheck" | cut -c1-30), $took s"
doctest runtime 'a right gradient passes*' && ok=1 || ok=0
line $ok "gradcheck finds a derivative that is off by 3e-6" "$(cases) cases"

# ---- dump
$gradc dump $gpt --set layers=12 --stage=grad --brief >"$work/grad" 2>/dev/null && ok=1 || ok=0
n=$(wc -l <"$work/grad")
[ "$n" -le 300 ] || ok=0
line $ok "dump --stage=grad --brief of 12 layers has at most 300 lines" "$n lines"
ok=1
stages=
for stage in $($gradc dump --list-stages | awk '{print $1}'); do
  case $stage in ast | llvm | asm) continue ;; esac
  for set in "layers=4" "layers=2 d=32 h=2 t=16 b=3"; do
    # shellcheck disable=SC2086
    $gradc dump $gpt --stage="$stage" --set $set >"$work/a" && $gradc opt - --passes= <"$work/a" >"$work/b" && cmp -s "$work/a" "$work/b" || ok=0
  done
  stages="$stages $stage"
done
line $ok "every IR stage goes through opt - --passes= unchanged" "$stages"

# ---- determinism, threads, compilation
for t in 1 2 3; do
  begin=$(seconds)
  /usr/bin/env bash -c "time $gradc train $gpt --data ${texts[*]} --steps 100 --threads $t --json --validate-every 0 --sample-tokens 0" \
    >"$work/run$t" 2>"$work/err$t" || true
  grep -o '"loss":[^,]*,\|"norm":[^,]*,' "$work/run$t" >"$work/loss$t"
done
n=$(grep -c loss "$work/loss1")
cmp -s "$work/loss1" "$work/loss2" && cmp -s "$work/loss1" "$work/loss3" && [ "$n" -eq 100 ] && ok=1 || ok=0
line $ok "same loss bits for --threads 1, 2 and 3 over 100 steps" "$n losses, last $(grep loss "$work/loss2" | tail -1 | tr -d '",')"
busy=$(awk '/^real/ {r = $2} /^user/ {u = $2} END { split(r, a, /[ms]/); split(u, b, /[ms]/); printf "%.2f", (b[1] * 60 + b[2]) / (a[1] * 60 + a[2]) }' "$work/err2")
line "$(holds "$busy >= 1.5")" "both cores are busy at --threads 2" "$busy processors of 2"
compiled=$(sed -n 's/^kernels *//p' "$work/err2" | tail -1)
case $compiled in *", 0 since"*) ok=1 ;; *) ok=0 ;; esac
line $ok "steps with a changing schedule compile nothing after the first" "${compiled:-?}"

# ---- wrong programs
n=$(grep -h '^---- expect' -A1 tests/golden/diagnostics/*.golden tests/golden/rules/*.golden | grep -cE '^[^ ]+:[0-9]+:[0-9]+: error: ')
doctest frontend 'a wrong program gets exactly this message,each rule of the language*,changed words and bytes*,what is long or deep*' && ok=1 || ok=0
[ "$n" -ge 40 ] || ok=0
line $ok "wrong programs: file:line:col: error, line, caret, notes; at least forty goldens" "$n goldens"
{ printf 'model m(b = 2, t = 3)\ninput token[b t] < 9\nx = 0'; for _ in $(seq 1000); do printf '+1%.0s' $(seq 100); done
  printf '\nparam w[b]\nloss = sum[b](w * x)\n'; } >"$work/long.grad"
begin=$(seconds)
$gradc check "$work/long.grad" >/dev/null 2>&1 && ok=1 || ok=0
took=$(since "$begin")
[ "$(holds "$took <= 1")" = 1 ] || ok=0
line $ok "a sum of 100,000 terms is right and checked in under a second" "$took s"
begin=$(seconds)
for _ in 1 2 3 4 5; do $gradc check $gpt >/dev/null; done
took=$(since "$begin")
line "$(holds "$took <= 0.5")" "check takes tens of milliseconds" "$(awk -v t="$took" 'BEGIN { printf "%.0f ms", t * 200 }')"

# ---- speed
if peers; then
  tests/bench/compare.py --config nano --batch 16 --seq 256 >"$work/compare" 2>&1 || true
  ratio=$(sed -n 's/.*"ratio": \([0-9.]*\).*/\1/p' "$work/compare" | tail -1)
  line "$(holds "${ratio:-99} <= 3")" "nano, batch 16, seq 256: a step takes at most 3x PyTorch eager's" "ratio ${ratio:-?} (median of 3 interleaved pairs)"
else
  line 0 "nano, batch 16, seq 256: a step takes at most 3x PyTorch eager's" "$no_peers"
fi

# ---- the first command, from nothing
rm -rf "$work/clone" && git clone -q . "$work/clone"
begin=$(seconds)
(cd "$work/clone" && CCACHE_DISABLE=1 bash runtime/packages.sh build run && cmake --preset binary >/dev/null && CCACHE_DISABLE=1 cmake --build --preset binary) >"$work/build" 2>&1 && ok=1 || ok=0
took=$(since "$begin")
[ "$(holds "$took <= 180")" = 1 ] || ok=0
line $ok "the binary alone builds in under three minutes" "$took s"
begin=$(seconds)
(cd "$work/clone" && bash runtime/quickstart.sh) >"$work/quick" 2>"$work/quickerr" && ok=1 || ok=0
took=$(since "$begin")
last=$(grep validation "$work/quick" | tail -1)
echo "$last" | awk '{ for (i = 1; i <= NF; ++i) { if ($i == "validation") v = $(i + 1); if ($i == "(bigrams") b = $(i + 1) + 0 } exit !(v != "" && v < b) }' || ok=0
[ "$(holds "$took <= 330")" = 1 ] || ok=0
line $ok "the first command trains below the bigram entropy, in about five minutes" "$took s, $(echo "$last" | sed 's/.*| validation/validation/' | cut -c1-30)"
sed -n '/---- sample/,$p' "$work/quick" | head -12
