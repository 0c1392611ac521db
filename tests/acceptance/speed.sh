# Speed; read by tests/acceptance.sh. On a machine that nobody else uses: another process shows as waiting.
# PEER_PYTHON and PEERS as for the others; SPEED_PAIRS=2 shortens the table, whose pairs are 5.
bench_gpt=tests/bench/gpt.grad
gpt2="layers=12 d=768 h=12 v=50257 t=64 b=4"
nano="layers=6 d=384 h=6 v=65 t=256 b=16"
char="layers=4 d=128 h=4 v=65 t=64 b=12"

# value KEY FILE: a number of the last JSON line
value() { python3 -c 'import json, sys; print(json.loads(open(sys.argv[2]).read().splitlines()[-1]).get(sys.argv[1], ""))' "$1" "$2" 2>/dev/null; }

read -r _ a b c d _ </proc/stat && sleep 2 && read -r _ e f g h _ </proc/stat
awk -v busy=$((e + f + g - a - b - c)) -v idle=$((h - d)) 'BEGIN {
  if (busy > 0.03 * (busy + idle)) printf "    no result: other processes take %.0f %% of the machine\n", 100 * busy / (busy + idle) }'

# ---- the table
cat >"$work/goals" <<'GOALS'
gpt2 b4 t64 f32       | 1.3
gpt2 b4 t64 bf16      | 1.4
gpt2 b1 t1024 f32     | 1.65
gpt2 b1 t1024 bf16    | 1.4
nano b16 t256 f32     | 1.3
nano b16 t256 bf16    | 1.45
char b12 t64 f32      | 1.6
small b1 t8192 f32    | 1.55
encdec base b16 t32 f32 | 1.3
lstm small b16 t128 f32 | 1.2
GOALS
peers=0
[ -n "${PEER_PYTHON:-}" ] && [ -n "${PEERS:-}" ] && peers=1
while IFS='|' read -r row goal; do
  row=$(echo "$row" | sed 's/ *$//')
  goal=${goal// /}
  what="$row: at least $goal times as fast as the fastest peer"
  if [ $peers = 0 ]; then
    line 0 "$what" "set PEER_PYTHON and PEERS"
    continue
  fi
  tests/bench/compare.py --peer-python "$PEER_PYTHON" --peers "$PEERS" --row "$row" --pairs "${SPEED_PAIRS:-5}" --json >"$work/row" 2>"$work/row.err" </dev/null || true
  speedup=$(value speedup "$work/row")
  figure=$(python3 -c '
import json, sys
r = json.loads(open(sys.argv[1]).read() or "{}")
if "speedup" in r:
    print("{} ({} {:.1f} ms / {:.1f}; {:.0f} % of floor)".format(r["speedup"], r["fastest"], r["peers"][r["fastest"]]["ms"], r["gradc_ms"], 100 * r["of_floor"]) + (", BUSY: others {:.0%}".format(r["others"]) if (r["others"] or 0) > 0.03 else ""))
else:
    print(("gradc: " + r["refused"] if "refused" in r else "no peer ran: " + "; ".join(r.get("failed", {}).values()))[:90])' "$work/row" 2>/dev/null)
  line "$(holds "${speedup:-0} >= $goal")" "$what" "${figure:-$(tail -1 "$work/row.err" | cut -c1-46)}"
done <"$work/goals"

# ---- kernels: `kernels FILE FAMILY PEAK` of a profile: FLOP-weighted mean of the share of PEAK, then kernels under the bound
kernels() {
  python3 - "$@" <<'PYTHON'
import json, sys
file, peak, bound = sys.argv[1], sys.argv[2], float(sys.argv[3])
j = json.loads(open(file).read().splitlines()[-1])
all_ms = sum(k["ms"] for k in j["profile"])
share = lambda k: k["flop"] / (k["ms"] * 1e-3) / (j[peak] * 1e9)
work = [k for k in j["profile"] if k["family"] == "contract"]
print(f"{sum(k['flop'] * share(k) for k in work) / sum(k['flop'] for k in work):.3f}")
for k in work:
    if share(k) < bound:
        print(f"    {k['kernel']}: {100 * share(k):.1f} % of peak, {100 * k['ms'] / all_ms:.1f} % of the step")
PYTHON
}
for precision in f32 bf16; do
  goal=0.87 least=0.75
  [ $precision = bf16 ] && goal=0.82 least=0.70
  for model in gpt2 nano char; do
    [ $precision = bf16 ] && [ $model = char ] && continue
    what="$model $precision: contractions reach $goal of the measured peak, weighted by FLOP"
    steps=6
    [ $model = char ] && steps=200
    flag=()
    [ $precision = bf16 ] && flag=(--precision bf16)
    # shellcheck disable=SC2086
    if ! $gradc bench $bench_gpt --set ${!model} --steps $steps --profile --json "${flag[@]}" >"$work/$model.$precision" 2>"$work/err"; then
      line 0 "$what" "gradc: $(head -1 "$work/err" | cut -c1-39)"
      continue
    fi
    kernels "$work/$model.$precision" "peak_${precision}_gflops" $least >"$work/kernels" 2>"$work/err" || tail -1 "$work/err" >"$work/kernels"
    mean=$(head -1 "$work/kernels")
    line "$(holds "${mean:-0} >= $goal")" "$what" "$mean of $(value "peak_${precision}_gflops" "$work/$model.$precision") GFLOP/s"
    tail -n +2 "$work/kernels"
    share=$(value profile_share "$work/$model.$precision")
    line "$(holds "${share:-0} >= 0.97 && ${share:-0} <= 1.03")" "$model $precision: the profile's sum is the step within 3 %" "${share:-?}"
  done
done

# ---- overhead
over=$(value overhead "$work/char.f32")
line "$(holds "${over:-1} <= 0.03")" "char: overhead beside the longest thread's time in kernels at most 3 %" "${over:-?} (median of 200 steps)"

# ---- streams: what is bound by memory, in GPT-2, against the measured copy
# rows kernels under 4 MB a launch live in caches; those above must stream.
python3 - "$work/gpt2.f32" >"$work/streams" 2>/dev/null <<'PYTHON'
import json, sys
j = json.loads(open(sys.argv[1]).read().splitlines()[-1])
rate = lambda ks: sum(k["bytes"] for k in ks) / sum(k["ms"] for k in ks) * 1e-6 / j["copy_gbs"]
rows = [k for k in j["profile"] if k["family"] == "rows" and k["bytes"] / k["calls"] > 4e6]
optimizer = max((k for k in j["profile"] if k["family"] == "map"), key=lambda k: k["bytes"])
print(f"{rate(rows):.3f} {rate([optimizer]):.3f}")
PYTHON
read -r rows optimizer <"$work/streams" || true
line "$(holds "${rows:-0} >= 0.85")" "gpt2: rows kernels of more than a cache reach 85 % of the measured copy" "${rows:-?}"
line "$(holds "${optimizer:-0} >= 0.85")" "gpt2: the optimizer reaches 85 % of the measured copy" "${optimizer:-?}"

# ---- compilation, memory, parameters
export GRADC_CACHE_DIR=$work/empty
# shellcheck disable=SC2086
for run in cold warm; do $gradc bench $bench_gpt --set $gpt2 --steps 2 --json >"$work/$run" 2>/dev/null || true; done
cold=$(value compile_s "$work/cold") warm=$(value compile_s "$work/warm")
line "$(holds "${cold:-9} <= 1.0")" "gpt2 compiles in at most 1.0 s with an empty cache" "${cold:-?} s"
line "$(holds "${warm:-9} <= 0.15")" "and in 0.15 s from the cache" "${warm:-?} s"
memory=$(value rss_mib "$work/warm")
line "$(holds "${memory:-9999} <= 2240")" "gpt2, batch 4, seq 64: peak memory at most 2240 MiB" "${memory:-?} MiB"
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
