# Fusion; read by tests/acceptance.sh. GRADC_FUZZ_COUNT programs instead of 10,000 shorten it.
window=tests/bench/window.grad
bench_gpt=tests/bench/gpt.grad
gpt2="layers=12 d=768 h=12 v=50257 t=1024 b=4"

# planned MODEL --set …: bytes of activations in the plan of a step
planned() { $gradc dump "$@" --stage=plan --brief 2>&1 | sed -n 's/^# activations: \([0-9]*\) bytes.*/\1/p'; }

# ---- forms
doctest runtime 'fused forms*' && ok=1 || ok=0
line $ok "every fused form and gradient against its definition: lengths 1 7 65, extremes" "$(cases) cases"
build/tests/test_runtime -ns -tc='fused forms: more lengths' >"$work/doctest" 2>&1 && ok=1 || ok=0
line $ok "the same at lengths 2 63 100 257" "$(cases) cases"
doctest codegen '*attention*,tiles that*,rows without*,gradients of biases*,large results*,sums of what*,score and weight*' && ok=1 || ok=0
line $ok "attention kernels against the interpreter; tiles computed as the mask says" "$(cases) cases"
doctest passes 'recognition*' && ok=1 || ok=0
yes=$(cat tests/golden/fuse/{activation,attention,loss,norm,softmax}.golden | grep -c '^---- expect')
no=$(cat tests/golden/fuse/*-not.golden | grep -c '^---- expect')
[ "$yes" -ge 40 ] && [ "$no" -ge 20 ] || ok=0
line $ok "at least 40 spellings fuse, 20 look-alikes do not, under other names and orders" "$yes and $no"
doctest passes 'attention*,rows that see nothing*,softmax, norms*' && ok=1 || ok=0
line $ok "gradients of fused operations by finite differences; empty rows give 0" "$(cases) cases"
doctest runtime 'what is*expected*,each call of a block*,what is not looked*' && ok=1 || ok=0
line $ok "expect fused(K): a miss is an error at its place, with the reason" "$(cases) cases"

# ---- the same function
doctest runtime 'parity*compiled*' && ok=1 || ok=0
line $ok "GPT-2 parity with every fusion on" "$(cases) cases"
build/tests/test_runtime -ns -tc='parity*each fusion off*' >"$work/doctest" 2>&1 && grep -Eq 'test cases: *[1-9]' "$work/doctest" && ok=1 || ok=0
line $ok "GPT-2 parity with each fusion alone off, and all" "$(cases) cases"
ok=1
for m in mini gpt llama transformer cnn lstm rnn; do $gradc check frontend/models/$m.grad --passes >"$work/passes" 2>&1 || ok=0; done
line $ok "check --passes of every shipped model: the interpreter agrees before and behind each pass" "$(tail -1 "$work/passes")"
count=${GRADC_FUZZ_COUNT:-10000}
build/tests/fuzz --count "$count" --from 1 >"$work/fuzz" 2>&1 && ok=1 || ok=0
few=$(awk '/^fused forms/ {forms = 1} /programs,/ {exit} {least = forms ? 100 : 200; for (i = 1; i < NF; ++i) if ($i ~ /^[a-z_]+$/ && $(i + 1) ~ /^[0-9]+$/ && $(i + 1) < least) printf "%s ", $i}' "$work/fuzz")
[ -z "$few" ] || ok=0
line $ok "fuzz: $count programs, interpreted and one in ten compiled; operations >= 200, forms >= 100" "$(grep -E '^[0-9]+ programs' "$work/fuzz" | cut -c1-44)"
[ -z "$few" ] || echo "    too few: $few"
build/tests/fuzz --faults 200 --from 1 --count 1 >"$work/faults" 2>&1 && ok=1 || ok=0
line $ok "ten deliberate faults are all found" "$(grep -c found "$work/faults") found"
GRADC_POISON=1 ctest --test-dir build -j "$(nproc)" >"$work/poison" 2>&1 && ok=1 || ok=0
line $ok "the whole suite passes in poison mode" "$(grep -E 'tests passed|tests failed' "$work/poison" | cut -c1-46)"
doctest passes 'costs*' && ok=1 || ok=0
line $ok "goldens without a clock for every shipped model: kernels, launches, FLOP, bytes, peak" "$(cases) cases"

# ---- memory
doctest passes 'no planned buffer grows*' && ok=1 || ok=0
line $ok "no planned buffer grows faster than linearly in the length" "$(grep -oE 'assertions: *[0-9]+' "$work/doctest" | grep -oE '[0-9]+') checks"
small="layers=2 d=256 h=4 v=256 b=1"
# shellcheck disable=SC2086
a=$(planned $bench_gpt --set $small t=8192) b=$(planned $bench_gpt --set $small t=16384)
line "$(holds "${a:-1e18} <= 300e6 && ${b:-1e18} <= 2.05 * ${a:-1}")" "small, seq 8192: activations <= 300e6; 16384 at most 2.05 times" "$a, $b"
# shellcheck disable=SC2086
a=$(planned $gpt --set $gpt2)
line "$(holds "${a:-1e18} <= 1.70e9")" "GPT-2 124M, batch 4, seq 1024: activations <= 1.70e9 bytes" "$a"
# shellcheck disable=SC2086
b=$(planned $gpt --set $gpt2 --memory-budget 800M)
line "$(holds "${b:-1e18} <= 0.8e9")" "the same with a budget of 0.8e9" "$b"
# shellcheck disable=SC2086
for n in 1 2; do
  $gradc bench $gpt --set $gpt2 --steps 2 --json >"$work/whole" 2>/dev/null && $gradc bench $gpt --set $gpt2 --steps 2 --json --memory-budget 800M >"$work/budget" 2>/dev/null
  sed -n 's/.*"min_ms": *\([0-9.]*\).*/\1/p' "$work/whole" "$work/budget" | paste -sd' ' >>"$work/pairs"
done
ratio=$(awk '{print $2 / $1}' "$work/pairs" | sort -n | head -1)
line "$(holds "${ratio:-9} <= 1.35")" "at no more than 1.35 times the time" "ratio ${ratio:-?}"

# ---- time
profile() { $gradc bench $window --set t=4096 "$1" --steps 3 --profile 2>/dev/null; }
for n in 1 2 3; do
  profile window=256 >"$work/narrow"
  profile window=4096 >"$work/causal"
  for f in narrow causal; do
    awk '/^attention/ {ms += $3} /^min_ms/ {step = $2} END {print ms, step}' "$work/$f"
  done | paste -sd' ' >>"$work/windows"
done
r=$(awk '{print $3 / $1}' "$work/windows" | sort -n | sed -n 2p) s=$(awk '{print $4 / $2}' "$work/windows" | sort -n | sed -n 2p)
line "$(holds "${r:-0} >= 5 && ${s:-0} >= 1.8")" "window 256 at 4096 against causal: attention 5 times, the step 1.8 times as fast" "${r:-?} and ${s:-?}"
if peers; then
  tests/bench/compare.py --config small --batch 1 --seq 8192 >"$work/compare" 2>&1 || true
  ratio=$(sed -n 's/.*"ratio": \([0-9.]*\).*/\1/p' "$work/compare" | tail -1)
  line "$(holds "${ratio:-99} <= 1")" "small, seq 8192: a step at least as fast as PyTorch's" "ratio ${ratio:-?} (median of 3 interleaved pairs)"
else
  line 0 "small, seq 8192: a step at least as fast as PyTorch's" "$no_peers"
fi
