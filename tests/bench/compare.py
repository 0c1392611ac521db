#!/usr/bin/env python3
"""gradc's training step against its peers', all sides in turn in one run, so that a drifting machine slows
all of them.

    tests/bench/compare.py --install ~/peers          a Python of its own with the peers in it
    tests/bench/compare.py --peer-python ~/peers/bin/python --peers PATH/TO/peers.py
                                                       the table: a line a row; --row PATTERN some, --json
    tests/bench/compare.py … --config nano --batch 16 --seq 256
                                                       one model against one peer, a line a pair

A pair is one process of each side. What is told of a row is the median over its pairs: milliseconds;
the speedup, peer / gradc, of the fastest peer; peak memory. A peer that took 1.3 times as long as the
fastest in the first pair runs in that one alone. The floor is what no step can be faster than
on this machine, at the rates that `gradc bench --profile` measures in the same run:

    (6 N tokens + 3.5 × FLOP of the attention's products forward) / peak + 28 N bytes / copy (bf16: 30 N)

with N parameters; a causal attention counts half its square. A ratio is refused if the parameter counts
or the first losses differ. What gradc refuses (a precision, a scan) is a row that says so. Sides suffer
differently from other processes, so a row tells how much processor time those took; above 3 % it is no result.
"""
import argparse, fnmatch, json, os, resource, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = ["torch==2.13.0", "numpy", "jax", "jaxlib"]
CONFIGS = {  # layers, width, heads, vocabulary
    "char": (4, 128, 4, 65),
    "nano": (6, 384, 6, 65),
    "small": (2, 256, 4, 256),
    "base": (6, 512, 8, 8192),
    "gpt2": (12, 768, 12, 50257),
}
ROWS = [  # model, config, batch, seq, dtype, timed steps a process
    ("gpt", "gpt2", 4, 64, "f32", 5), ("gpt", "gpt2", 4, 64, "bf16", 5),
    ("gpt", "gpt2", 1, 1024, "f32", 3), ("gpt", "gpt2", 1, 1024, "bf16", 3),
    ("gpt", "nano", 16, 256, "f32", 4), ("gpt", "nano", 16, 256, "bf16", 4),
    ("gpt", "char", 12, 64, "f32", 60),
    ("gpt", "small", 1, 8192, "f32", 3),
    ("encdec", "base", 16, 32, "f32", 5),
    ("lstm", "small", 16, 128, "f32", 8),
]
PEERS = ["torch", "torch-compile", "jax"]

ap = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
ap.add_argument("--install", metavar="DIR", help="make a Python there with " + " ".join(PACKAGES) + "; nothing else")
ap.add_argument("--peer-python", help="a Python that has the peers")
ap.add_argument("--peers", help="the script that times them: a JSON line a run")
ap.add_argument("--gradc", default=os.path.join(HERE, "../../build/gradc"))
ap.add_argument("--pairs", type=int, help="default 5, of one comparison 3")
ap.add_argument("--steps", type=int, help="timed, of a process (default: by row; of one comparison 3)")
ap.add_argument("--row", action="append", help="of the table, a pattern: 'gpt2*', '*bf16'; again for more")
ap.add_argument("--json", action="store_true", help="the table as one JSON object a row")
ap.add_argument("--config", choices=list(CONFIGS), help="one comparison: of this GPT")
ap.add_argument("--batch", type=int, default=16)
ap.add_argument("--seq", type=int, default=256)
ap.add_argument("--peer", default="torch", choices=PEERS, help="one comparison: with this peer")
a = ap.parse_args()


class Refused(Exception):
    pass


def last_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [""])
        first = next((l for l in said if "error" in l.lower()), said[-1])
        raise Refused(f"exit {done.returncode}: {first[:160]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(model, config, batch, seq, dtype, steps, *more):
    layers, width, heads, vocabulary = CONFIGS[config]
    set_ = [f"layers={layers}", f"d={width}", f"v={vocabulary}", f"t={seq}", f"b={batch}"]
    if model != "lstm":
        set_.append(f"h={heads}")
    precision = [] if dtype == "f32" else ["--precision", dtype]
    return last_json([a.gradc, "bench", os.path.join(HERE, model + ".grad"), "--steps", str(steps), "--json", *precision, *more, "--set", *set_])


def theirs(peer, model, config, batch, seq, dtype, steps):
    return last_json([a.peer_python, a.peers, "--peer", peer, "--model", model, "--config", config, "--batch", str(batch), "--seq", str(seq),
                      "--dtype", dtype, "--steps", str(steps)])


class Others:
    """The share of all processors' time that went to neither side since it was made, or to the host."""

    def __init__(self):
        self.before = self.now()

    @staticmethod
    def now():
        try:
            with open("/proc/stat") as f:
                user, nice, system, _, _, irq, soft, steal = map(int, f.readline().split()[1:9])
        except OSError:
            return None
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return busy - sum(u.ru_utime + u.ru_stime for u in used), time.monotonic() * os.cpu_count()

    def share(self):
        if self.before is None:
            return None
        (a, s), (b, t) = self.before, self.now()
        return round(max(0.0, (b - a) / (t - s)), 3)


def check_same(g, p):
    if g["parameters"] != p["parameters"]:
        raise Refused(f"not the same model: {g['parameters']} parameters against {p['parameters']}")
    if abs(g["first_loss"] - p["first_loss"]) > 0.1:
        raise Refused(f"not the same start: first loss {g['first_loss']} against {p['first_loss']}")


def floor_ms(machine, n, model, config, batch, seq, dtype):
    layers, width, _, _ = CONFIGS[config]
    square = 4 * batch * seq * seq * width * layers  # two products forward, all keys
    attention = {"gpt": 0.5, "encdec": 2.5, "lstm": 0}[model] * square  # causal; and two that are not
    bf16 = dtype == "bf16"
    peak = machine.get("peak_bf16_gflops" if bf16 else "peak_f32_gflops")
    if not peak:
        return None
    return ((6 * n * batch * seq + 3.5 * attention) / peak + (30 if bf16 else 28) * n / machine["copy_gbs"]) / 1e6


def median(rows, key):
    return statistics.median(r[key] for r in rows)


def measure(row):
    name = row_name(row)
    steps = a.steps or row[5]
    out = {"row": name, "model": row[0], "config": row[1], "batch": row[2], "seq": row[3], "dtype": row[4]}
    try:
        machine = ours(*row[:5], steps, "--profile")
    except Refused as r:
        return out | {"refused": str(r)}
    mine, peers, failed, others = [], {p: [] for p in PEERS}, {}, Others()
    for _ in range(a.pairs or 5):
        g = ours(*row[:5], steps)
        mine.append(g)
        first = {p: r[0]["ms"] for p, r in peers.items() if r}
        for peer in PEERS:
            if peer in failed or first.get(peer, 0) > 1.3 * min(first.values(), default=0):
                continue
            try:
                p = theirs(peer, *row[:5], steps)
                check_same(g, p)
                peers[peer].append(p | {"speedup": p["ms"] / g["ms"], "memory": p["rss_mib"] / g["rss_mib"]})
            except Refused as r:
                failed[peer] = str(r)
    ran = [p for p in PEERS if p not in failed]
    out |= {"parameters": mine[0]["parameters"], "gradc_ms": round(median(mine, "ms"), 3), "rss_mib": median(mine, "rss_mib"),
            "peak_gflops": machine.get("peak_bf16_gflops" if row[4] == "bf16" else "peak_f32_gflops"), "read_gbs": machine["read_gbs"],
            "copy_gbs": machine["copy_gbs"], "pairs": len(mine), "others": others.share(), "failed": failed,
            "peers": {p: {"ms": round(median(peers[p], "ms"), 3), "speedup": round(median(peers[p], "speedup"), 3),
                          "rss_mib": median(peers[p], "rss_mib"), "memory": round(median(peers[p], "memory"), 3)} for p in ran}}
    floor = floor_ms(machine, out["parameters"], *row[:5])
    if floor:
        out |= {"floor_ms": round(floor, 3), "of_floor": round(floor / out["gradc_ms"], 3)}
    if ran:
        best = min(ran, key=lambda p: out["peers"][p]["ms"])
        out |= {"fastest": best, "speedup": out["peers"][best]["speedup"], "memory": out["peers"][best]["memory"]}
    return out


def row_name(row):
    return f"{row[1] if row[0] == 'gpt' else row[0] + ' ' + row[1]} b{row[2]} t{row[3]} {row[4]}"


def table():
    rows = [r for r in ROWS if not a.row or any(fnmatch.fnmatch(row_name(r), p) for p in a.row)]
    if not rows:
        sys.exit("no such row; there are: " + ", ".join(map(row_name, ROWS)))
    form = "{:<24} {:>10} {:>10} {:>13} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>7}"
    if not a.json:
        print(form.format("ms of a step", "gradc", *PEERS, "speedup", "floor", "of floor", "peak", "copy", "rss MiB", "rss x"), flush=True)
    for row in rows:
        r = measure(row)
        if a.json:
            print(json.dumps(r), flush=True)
        elif "refused" in r:
            print(f"{r['row']:<24} gradc: {r['refused']}", flush=True)
        else:
            each = [f"{r['peers'][p]['ms']:.1f}" if p in r["peers"] else "-" for p in PEERS]
            number = lambda key, digits: f"{r[key]:.{digits}f}" if r.get(key) else "-"
            print(form.format(r["row"], number("gradc_ms", 1), *each, number("speedup", 2), number("floor_ms", 1), number("of_floor", 2),
                              number("peak_gflops", 0), number("copy_gbs", 1), number("rss_mib", 0), number("memory", 2)), flush=True)
            if r["others"] and r["others"] > 0.03:
                print(f"    no result: other processes took {100 * r['others']:.0f} % of the machine", flush=True)
            for peer, why in r["failed"].items():
                print(f"    {peer}: {why}", flush=True)


def one():
    row = ("gpt", a.config, a.batch, a.seq, "f32", a.steps or 3)
    ratios = []
    try:
        for i in range(a.pairs or 3):
            g, p = ours(*row), theirs(a.peer, *row)
            check_same(g, p)
            ratios.append(g["ms"] / p["ms"])
            print(f"pair {i + 1}: gradc {g['ms']:.1f} ms, {a.peer} {p['ms']:.1f} ms, ratio {ratios[-1]:.2f}", flush=True)
    except Refused as r:
        sys.exit(str(r))
    print(json.dumps({"config": a.config, "batch": a.batch, "seq": a.seq, "peer": a.peer, "parameters": g["parameters"],
                      "ratio": round(statistics.median(ratios), 3), "speedup": round(1 / statistics.median(ratios), 3),
                      "pairs": [round(r, 3) for r in ratios]}))


if a.install:
    python = os.path.join(a.install, "bin/python")
    subprocess.run([sys.executable, "-m", "venv", a.install], check=True)
    subprocess.run([python, "-m", "pip", "install", *PACKAGES], check=True)
    print(python)
elif not a.peer_python or not a.peers:
    ap.error("--peer-python and --peers are needed (--install DIR makes the first)")
elif a.config:
    one()
else:
    table()
