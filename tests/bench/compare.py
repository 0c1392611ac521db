#!/usr/bin/env python3
"""gradc's training step against its peers', all sides in turn in one run, so that a drifting machine slows
all of them.

    tests/bench/compare.py --install      once: PyTorch and JAX, into build/peers and nowhere else
    tests/bench/compare.py                the table: a line a row; --row PATTERN some, --json
    tests/bench/compare.py --config nano --batch 16 --seq 256
                                          one model against one peer, a line a pair

A pair is one process of each side. What is told of a row is the median over its pairs: milliseconds;
the speedup, peer / gradc, of the fastest peer; peak memory. A peer that took 1.3 times as long as the
fastest in the first pair runs in that one alone. The floor is what no step can be faster than
on this machine, at the rates that `gradc bench --profile` measures in the same run:

    (6 N tokens + 3.5 × FLOP of the attention's products forward) / peak + 28 N bytes / moved (bf16: 30 N)

with N parameters and the faster of copies and updates in place; a causal attention counts half its square. On a processor without bf16 arithmetic the peak is that of
f32. There is no ratio where the parameter counts differ, or the first losses by more than 0.1. What gradc
refuses (a precision, say) is a row that says so. Sides suffer differently from other
processes, so a row tells how much processor time those took; above 3 % it is no result.

The peers' Python is $PEER_PYTHON, else build/peers; their script is peers.py beside this one.
"""
import argparse, fnmatch, json, os, resource, statistics, subprocess, sys, time

from figures import last_json
from peers import CONFIGS, PEERS

HERE = os.path.dirname(os.path.abspath(__file__))
INSTALLED = os.path.normpath(os.path.join(HERE, "../../build/peers"))
PACKAGES = ["torch==2.13.0", "numpy", "jax", "jaxlib"]
ROWS = [  # model, config, batch, seq, dtype, timed steps a process
    ("gpt", "gpt2", 4, 64, "f32", 5), ("gpt", "gpt2", 4, 64, "bf16", 5),
    ("gpt", "gpt2", 1, 1024, "f32", 3), ("gpt", "gpt2", 1, 1024, "bf16", 3),
    ("gpt", "nano", 16, 256, "f32", 4), ("gpt", "nano", 16, 256, "bf16", 4),
    ("gpt", "char", 12, 64, "f32", 60),
    ("gpt", "small", 1, 8192, "f32", 3),
    ("encdec", "base", 16, 32, "f32", 5),
    ("lstm", "small", 16, 128, "f32", 8),
]

ap = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
ap.add_argument("--install", metavar="DIR", nargs="?", const=INSTALLED,
                help="make a Python there with " + " ".join(PACKAGES) + "; another DIR than build/peers is linked from it")
ap.add_argument("--peer-python", default=os.environ.get("PEER_PYTHON") or os.path.join(INSTALLED, "bin/python"), help="a Python that has the peers")
ap.add_argument("--peers", default=os.environ.get("PEERS") or os.path.join(HERE, "peers.py"), help="the script that times them, with the flags of peers.py")
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
    """A side did not run."""


class Different(Exception):
    """Both sides ran, but not the same step."""


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [""]
        first = next((l for l in said if "error" in l.lower()), said[-1])
        raise Refused(f"exit {done.returncode}: {first[:160]}")
    return last_json(done.stdout)


def ours(model, config, batch, seq, dtype, steps, *more):
    layers, width, heads, vocabulary = CONFIGS[config]
    numbers = [f"layers={layers}", f"d={width}", f"v={vocabulary}", f"t={seq}", f"b={batch}"]
    if model != "lstm":
        numbers.append(f"h={heads}")
    precision = [] if dtype == "f32" else ["--precision", dtype]
    return run([a.gradc, "bench", os.path.join(HERE, model + ".grad"), "--steps", str(steps), "--json", *precision, *more, "--set", *numbers])


def theirs(peer, model, config, batch, seq, dtype, steps):
    return run([a.peer_python, a.peers, "--peer", peer, "--model", model, "--config", config, "--batch", str(batch), "--seq", str(seq),
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
        raise Different(f"not the same model: {g['parameters']} parameters against {p['parameters']}")
    if not abs(g["first_loss"] - p["first_loss"]) <= 0.1:
        raise Different(f"not the same start: first loss {g['first_loss']} against {p['first_loss']}")


def floor_ms(peak, moved, n, model, config, batch, seq, dtype):
    layers, width, _, _ = CONFIGS[config]
    square = 4 * batch * seq * seq * width * layers  # two products forward, all keys
    attention = {"gpt": 0.5, "encdec": 2.5, "lstm": 0}[model] * square  # causal; and two that are not
    return ((6 * n * batch * seq + 3.5 * attention) / peak + (30 if dtype == "bf16" else 28) * n / moved) / 1e6


def median(runs, key):
    return round(statistics.median(r[key] for r in runs), 3)


def measure(row):
    out = {"row": row_name(row), "model": row[0], "config": row[1], "batch": row[2], "seq": row[3], "dtype": row[4]}
    work, steps = row[:5], a.steps or row[5]
    mine, peers, failed, different, others = [], {p: [] for p in PEERS}, {}, {}, Others()
    try:
        machine = ours(*work, steps, "--profile")
        for _ in range(a.pairs or 5):
            g = ours(*work, steps)
            mine.append(g)
            first = {p: r[0]["ms"] for p, r in peers.items() if r}
            for peer in PEERS:
                if peer in failed or peer in different or first.get(peer, 0) > 1.3 * min(first.values(), default=0):
                    continue
                try:
                    p = theirs(peer, *work, steps)
                    check_same(g, p)
                    peers[peer].append(p | {"speedup": p["ms"] / g["ms"], "memory": p["rss_mib"] / g["rss_mib"]})
                except Refused as r:
                    failed[peer] = str(r)
                except Different as d:
                    different[peer] = str(d)
    except Refused as r:
        return out | {"refused": str(r)}
    peak = machine.get(f"peak_{row[4]}_gflops")
    out |= {"parameters": mine[0]["parameters"], "gradc_ms": median(mine, "ms"), "rss_mib": median(mine, "rss_mib"),
            "first_call_s": median(mine, "first_call_s"), "arithmetic": bool(peak), "peak_gflops": peak or machine["peak_f32_gflops"],
            "read_gbs": machine["read_gbs"], "copy_gbs": machine["copy_gbs"], "update_gbs": machine["update_gbs"], "pairs": len(mine), "others": others.share(),
            "failed": failed, "no_ratio": different}
    out["floor_ms"] = round(floor_ms(out["peak_gflops"], max(out["copy_gbs"], out["update_gbs"]), out["parameters"], *work), 3)
    out["of_floor"] = round(out["floor_ms"] / out["gradc_ms"], 3)
    out["peers"] = {p: {key: median(peers[p], key) for key in ("ms", "speedup", "rss_mib", "memory", "first_call_s", "first_loss")}
                    for p in PEERS if peers[p] and p not in failed and p not in different}
    if out["peers"]:
        best = min(out["peers"], key=lambda p: out["peers"][p]["ms"])
        out |= {"fastest": best, "speedup": out["peers"][best]["speedup"], "memory": out["peers"][best]["memory"]}
    return out


def row_name(row):
    return f"{row[1] if row[0] == 'gpt' else row[0] + ' ' + row[1]} b{row[2]} t{row[3]} {row[4]}"


FORM = "{:<24} {:>10} {:>10} {:>13} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7}"
HEAD = FORM.format("ms of a step", "gradc", *PEERS, "speedup", "floor", "of floor", "GFLOP/s", "read", "copy", "rss MiB", "rss x")


def lines(r):
    """A row of the table, and below it what has to be said of it."""
    if "refused" in r:
        return [f"{r['row']:<24} gradc: {r['refused']}"]

    def cell(peer):
        return "no ratio" if peer in r["no_ratio"] else f"{r['peers'][peer]['ms']:.1f}" if peer in r["peers"] else "-"

    none = "no ratio" if r["no_ratio"] else "-"
    out = [FORM.format(r["row"], f"{r['gradc_ms']:.1f}", *map(cell, PEERS), f"{r['speedup']:.2f}" if "speedup" in r else none,
                       f"{r['floor_ms']:.1f}", f"{r['of_floor']:.2f}", f"{r['peak_gflops']:.0f}", f"{r['read_gbs']:.1f}",
                       f"{r['copy_gbs']:.1f}", f"{r['rss_mib']:.0f}", f"{r['memory']:.2f}" if "memory" in r else none)]
    if not r["arithmetic"]:
        out.append(f"    this CPU has no {r['dtype']} arithmetic: peak and floor are those of f32")
    if (r["others"] or 0) > 0.03:
        out.append(f"    no result: other processes took {100 * r['others']:.0f} % of the machine")
    out += [f"    {peer}: no ratio: {why}" for peer, why in r["no_ratio"].items()]
    return out + [f"    {peer}: {why}" for peer, why in r["failed"].items()]


def table():
    rows = [r for r in ROWS if not a.row or any(fnmatch.fnmatch(row_name(r), p) for p in a.row)]
    if not rows:
        sys.exit("no such row; there are: " + ", ".join(map(row_name, ROWS)))
    if not a.json:
        print(HEAD, flush=True)
    for row in rows:
        r = measure(row)
        print(json.dumps(r) if a.json else "\n".join(lines(r)), flush=True)


def one():
    row = ("gpt", a.config, a.batch, a.seq, "f32", a.steps or 3)
    ratios = []
    try:
        for i in range(a.pairs or 3):
            g, p = ours(*row), theirs(a.peer, *row)
            check_same(g, p)
            ratios.append(g["ms"] / p["ms"])
            print(f"pair {i + 1}: gradc {g['ms']:.1f} ms, {a.peer} {p['ms']:.1f} ms, ratio {ratios[-1]:.2f}", flush=True)
    except Different as d:
        sys.exit(f"no ratio: {d}")
    except Refused as r:
        sys.exit(str(r))
    print(json.dumps({"config": a.config, "batch": a.batch, "seq": a.seq, "peer": a.peer, "parameters": g["parameters"],
                      "ratio": round(statistics.median(ratios), 3), "speedup": round(1 / statistics.median(ratios), 3),
                      "pairs": [round(r, 3) for r in ratios]}))


def install():
    python = os.path.join(a.install, "bin/python")
    subprocess.run([sys.executable, "-m", "venv", a.install], check=True)
    subprocess.run([python, "-m", "pip", "install", *PACKAGES], check=True)
    if os.path.realpath(a.install) != os.path.realpath(INSTALLED):
        os.makedirs(os.path.dirname(INSTALLED), exist_ok=True)
        if os.path.islink(INSTALLED):
            os.unlink(INSTALLED)
        if not os.path.exists(INSTALLED):
            os.symlink(os.path.abspath(a.install), INSTALLED)
    print(python)


if a.install:
    install()
elif not os.access(a.peer_python, os.X_OK):
    ap.error(f"there is no {os.path.relpath(a.peer_python)}: `{os.path.relpath(__file__)} --install` makes it, or PEER_PYTHON says which Python has the peers")
elif a.config:
    one()
else:
    table()
