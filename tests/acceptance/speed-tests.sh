# What of speed a busy machine shows as well as a quiet one; read by tests/acceptance.sh, also as the second half of `speed`.
# A line says which tests it ran, or which command.
bench_gpt=tests/bench/gpt.grad
small="layers=2 d=64 h=2 v=65 t=64 b=2"

tested() {  # tested BINARY PATTERN REQUIREMENT
  local ok=0
  doctest "$1" "$2" && ok=1
  line $ok "$3" "test_$1, $(cases) cases, $(grep -oE 'assertions: *[0-9]+' "$work/doctest" | grep -oE '[0-9]+' | tail -1) checks"
}

# ---- contractions
tested codegen 'blocks of any size*,a long k is added*,bf16: the same bits*,f64' \
  "one ascending sum an output: the same bits for any tile and block, workers or one"
tested codegen 'every order of axes in memory*,batches and several axes*,one argument as both*' "operands packed from any strides"
tested codegen 'every extent in every role,few products over many batches*' "few rows, down to 1, and narrow results"
tested codegen 'bias and gelu*,a residual in place*,totals*,results in several*,sources*masks*,behind products*' "epilogues"
tested codegen 'the microkernel keeps its accumulators*' \
  "no stack spill of a vector register: the assembly of 7 contractions for 4 targets, bf16 too"
tested codegen 'in the products of tiles*' "the same of attention's products, for 3 targets"

n=$(grep -c "\.prefetch(" codegen/contract*.cpp | awk -F: "{ n += \$2 } END { print n }")
line "$(holds "$n > 0")" "the next panel is prefetched where that pays" "$n places; codegen/README.md says what it gains"

# ---- bf16
tested passes 'precision*' "bf16: every rounding is a cast in the IR, once, in the kernel that makes or reads the value"
tested runtime 'precision*' "bf16: compiled gradients are the interpreter's of the same roundings"
tested runtime 'memory: bf16*' "bf16: the same bits for any number of threads"
doctest runtime 'parity*products of bf16' && ok=1 || ok=0
line $ok "bf16: GPT-2's losses within 1e-2 of PyTorch's f64 over ten steps" "$(figures 'losses within')"
# shellcheck disable=SC2086
$gradc bench $bench_gpt --set $small --steps 2 --precision bf16 --profile --json >"$work/moved" 2>"$work/err" || true
moved=$(ask optimizer_bytes "$work/moved")
line "$(holds "${moved%% *} == 30")" "bf16: the optimizer writes one bf16 copy, 2 bytes a parameter beside 28" "${moved#* }"
tested passes 'rounded*' "the same step with the copy as without: to the bit, through calls and turns, in place"
tests/bench/curves.py --svg "$work/curves.svg" >"$work/curves" 2>&1 && ok=1 || ok=0
line $ok "bf16: 500 steps on text: each seed's held-out curve as near to f32's as the closest two f32 seeds" \
  "$(ask curves "$work/curves")"

# ---- attention
tested codegen 'attention at lengths*,attention*gradient at lengths*,attention with grouped*' "attention by tiles of the same products, whatever the length"
# shellcheck disable=SC2086
tiles=$($gradc bench $bench_gpt --set $small --steps 2 --profile 2>/dev/null | sed -n 's/^attention.* \([0-9]* of [0-9]* tiles\) .*/\1/p' | sort -u | paste -sd, -)
line "$([ "$tiles" = "1 of 1 tiles" ] && echo 1 || echo 0)" "a sequence of 64 is one tile, forward and backward" "${tiles:-?}"
for t in 1 2 3; do
  $gradc train $gpt --data "${texts[@]}" --set h=1 b=1 t=512 --steps 10 --threads $t --json --validate-every 0 --sample-tokens 0 2>/dev/null |
    grep -o '"loss":[^,]*,"norm":[^,]*,' >"$work/one$t"
done
cmp -s "$work/one1" "$work/one2" && cmp -s "$work/one1" "$work/one3" && [ "$(wc -l <"$work/one1")" = 10 ] && ok=1 || ok=0
line $ok "batch 1, one head: partial sums follow from the shape, the same bits for 1, 2 and 3 threads" "$(tail -1 "$work/one1" | tr -d '"')"

# ---- memory
tested passes 'costs*' "no pass over memory that an epilogue spares: launches and bytes of every shipped model are goldens"
$gradc bench $bench_gpt --set layers=12 d=768 h=12 v=50257 t=64 b=4 --steps 4 --json >"$work/huge" 2>/dev/null &
pid=$!
while kill -0 $pid 2>/dev/null; do
  awk '/^Anonymous/ {a = $2} /^AnonHuge/ {h = $2} END { if (a) printf "%d %d\n", h / 1024, a / 1024 }' /proc/$pid/smaps_rollup 2>/dev/null
  sleep 0.1
done | sort -n | tail -1 >"$work/pages"
read -r pages all <"$work/pages" || true
line "$(holds "${pages:-0} >= 0.9 * ${all:-1e9}")" "huge pages for the arenas: at least 90 % of GPT-2's anonymous memory" \
  "${pages:-?} of ${all:-?} MiB; the system: $(grep -o '\[.*\]' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null)"

# ---- profile, lines, trace
# shellcheck disable=SC2086
profile() { $gradc bench $bench_gpt --set $small --steps 20 --profile "$@" 2>"$work/err"; }
profile --lines --json --trace "$work/trace" >"$work/profile" || true
profile --lines >"$work/lines" || true
figure=$(ask fields "$work/profile") && ok=1 || ok=0
line $ok "--profile: a kernel's calls, ms, FLOP, bytes, share of its roofline, each thread busy and waiting" "$figure"
figure=$(ask trace "$work/trace") && ok=1 || ok=0
line $ok "--trace: a Chrome trace" "$figure"
figure=$(ask lines "$work/profile" "$work/lines" $bench_gpt)
line "$(holds "${figure%% *} >= 0.999 && ${figure%% *} <= 1.001")" "--lines: the .grad file with ms forward, ms backward, MB kept, kernels; they add up to the profile" "${figure#* }"
tested runtime 'lines*,profile*,roofline*' "the join, the sums, the trace"

# ---- compilation
tested runtime 'launches of one kernel*' "nothing is compiled twice; a second run compiles 0 kernels"
tested runtime 'bench: the second run*' "the same by the command line; --no-cache neither reads nor writes"
tested runtime 'a damaged entry*,an entry with any byte*,lengths within*' "cache: a flipped byte is compiled again"
tested runtime 'an entry of another processor*' "cache: so is another CPU's, LLVM's or kernel's entry, with one warning"
tested runtime 'a place that is no folder*' "cache: a directory that is full or cannot be written: compiled, with one warning"
tested runtime 'processes at once*' "cache: two processes at once find whole entries or none"
tested runtime 'the cache gives*,links are not followed*,beyond the bound*,where the cache is*' "cache: private, bounded, where it should be"
tested runtime 'the code of a step does not grow*' "4 and 48 layers have the same number of distinct kernels"

# ---- limits
figure=$(grep -m 1 -o '^In a step on [^(:]*' codegen/README.md) && ok=1 || ok=0
line $ok "codegen/README.md says what the profile shows where a goal is out of reach, and what was tried" "$figure"

# ---- small models
doctest runtime 'pool: a worker that waits*' && ok=1 || ok=0
line $ok "workers spin at most 50 µs and then sleep" "$(figures 'of 20 ms' | sed 's/of 20 ms/20 ms/; s/ on the processor//')"

# ---- the comparison
python3 tests/bench/compare_test.py >"$work/unit" 2>&1 && ok=1 || ok=0
line $ok "the comparison refuses other parameter counts and first losses; median of pairs; floors of measured rates" \
  "compare_test.py: $(sed -n 's/^Ran \(.*\) in.*/\1/p' "$work/unit")"
while read -r model count set; do
  # shellcheck disable=SC2086
  n=$($gradc check "tests/bench/$model.grad" ${set:+--set $set} 2>/dev/null | sed -n 's/^parameters *//p' | tr -d ,)
  line "$(holds "${n:-0} == $count")" "$model ${set:-as it stands}: the peers' parameter count" "${n:-?}"
done <<'COUNTS'
gpt 123702528 layers=12 d=768 h=12 v=50257 t=64
gpt 124439808 layers=12 d=768 h=12 v=50257 t=1024
gpt 10770816 layers=6 d=384 h=6 v=65 t=256
encdec 48350208
lstm 1151488
COUNTS
# shellcheck disable=SC2086
printed=$($gradc bench $bench_gpt --set $small --steps 1 2>/dev/null | sed -n 's/^parameters *//p')
line "$(holds "${printed:-0} > 0")" "bench prints the parameter count" "${printed:-?}"
n=$(grep -l 'optimizer = adamw(.*clip = 0)' tests/bench/{gpt,encdec,lstm}.grad | wc -l)
[ "$n" = 3 ] && ! grep -q except tests/bench/*.grad && grep -q '    batch.copy();' runtime/bench.cpp && grep -q 'mine.copy_' tests/bench/peers.py && ok=1 || ok=0
line $ok "AdamW on every parameter, no clipping, a batch copied in every step" "$n models; bench.cpp and peers.py"
tested codegen 'rates*' "the peak's loop: registers only, chains of multiply-adds for every target"
shown=$(grep -cE '^\| [a-z0-9 ]+ b[0-9]+ t[0-9]+ (f32|bf16) \|' README.md)
grep -q '^`tests/bench/compare.py`' README.md && [ "$shown" -ge 10 ] && ok=1 || ok=0
line $ok "README shows the table, a line for each of ten rows, and its command" "$shown rows"
outside=$(git ls-files | grep '\.py$' | grep -vc '^tests/bench/')
tests/bench/compare.py --help | grep -q -- --install && [ "$outside" = 0 ] && ok=1 || ok=0
line $ok "the comparison installs the peers into a directory of its own; no other Python" "$outside .py files outside tests/bench"
