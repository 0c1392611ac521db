#!/usr/bin/env python3
"""Reads what `gradc bench --json` and compare.py print, for compare.py and for tests/acceptance/speed.sh.

    tests/bench/figures.py QUESTION FILE [ARGUMENT …]     the answer; exit 1, and nothing on stdout, if FILE has none

Of a file's text the last line counts, which is a JSON object. The questions are the functions below that have an
underscore at their end; each says what it prints.
"""
import json, statistics, sys


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def read(file):
    with open(file) as f:
        return last_json(f.read())


def value_(file, key):
    """A member."""
    return read(file)[key]


def rate(kernels, of):
    """In medians over the steps: a step that another process slowed says nothing of a kernel."""
    return sum(k[of] for k in kernels) / sum(k["median_ms"] for k in kernels) * 1e-6


def contractions_(file, precision, least):
    """The mean share of the measured peak over all contractions, weighted by FLOP; a line for each below `least`."""
    j = read(file)
    peak = j.get(f"peak_{precision}_gflops")
    if not peak:
        return f"- this CPU has no {precision} arithmetic"
    work = [k for k in j["profile"] if k["family"] == "contract"]
    share = {k["kernel"]: rate([k], "flop") / peak for k in work}
    mean = sum(k["flop"] * share[k["kernel"]] for k in work) / sum(k["flop"] for k in work)
    step = sum(k["ms"] for k in j["profile"])
    low = [k for k in work if share[k["kernel"]] < float(least)]
    return "\n".join([f"{mean:.3f} {100 * mean:.1f} % of {peak:.0f} GFLOP/s"] + [
        f"    {k['kernel']}: {100 * share[k['kernel']]:.1f} % of peak, {100 * k['ms'] / step:.1f} % of the step" for k in low])


def evenness(kernels):
    busy = [sum(k["threads"][n]["busy_ms"] for k in kernels) for n in range(len(kernels[0]["threads"]))]
    return min(busy) / max(busy), len(busy)


def balance_(file, family):
    """The least busy thread's time in kernels of a family (`attention*` is all that begin so) by the busiest's."""
    of = lambda k: k["family"].startswith(family[:-1]) if family.endswith("*") else k["family"] == family
    share, threads = evenness([k for k in read(file)["profile"] if of(k)])
    return f"{share:.3f} {share:.2f} of the busiest ({threads} threads)"


def optimizer(j):
    """Bytes and milliseconds of the optimizer's kernels. The rates that they are held to are the best of several times, so theirs are, too."""
    kernels = [k for k in j["profile"] if k["role"] == "update"]
    return sum(k["bytes"] for k in kernels), sum(k["least_ms"] for k in kernels)


def optimizer_(file):
    """The bytes of the optimizer by time, beside the measured copy; and beside an update in place, which it is, but for 4 reads to
    its 3 writes."""
    j = read(file)
    moved, ms = optimizer(j)
    gbs = moved / ms * 1e-6
    return f"{gbs / j['copy_gbs']:.3f} {gbs:.1f} GB/s; copied {j['copy_gbs']}, updated in place {j['update_gbs']}"


def rows_(file):
    """What rows kernels of more than 4 MB a launch, but the optimizer's, would take at the measured rates of reading and moving, by
    what they take."""
    j = read(file)
    large = [k for k in j["profile"] if k["family"] == "rows" and k["role"] != "update" and k["bytes"] / k["calls"] > 4e6]
    share = sum(k["roofline"] * k["ms"] for k in large) / sum(k["least_ms"] for k in large)
    return f"{share:.3f} {100 * share:.0f} % of {j['read_gbs']} GB/s read, {max(j['copy_gbs'], j['update_gbs'])} moved"


def fields_(file):
    """How many kernels the profile has, if each has all that it promises for each thread."""
    j = read(file)
    for k in j["profile"]:
        for key in ("calls", "ms", "flop", "bytes", "roofline"):
            float(k[key])
        for t in k["threads"]:
            float(t["busy_ms"]), float(t["waiting_ms"])
        if len(k["threads"]) != j["threads"]:
            sys.exit(1)
    return f"{len(j['profile'])} kernels, {j['threads']} threads"


def trace_(file):
    """How many events of kernels and of waits a Chrome trace has, if all are well formed, and its rows."""
    with open(file) as f:
        events = json.load(f)["traceEvents"]
    timed = [e for e in events if e["ph"] == "X"]
    for e in timed:
        if not (e["ts"] >= 0 and e["dur"] >= 0 and e["name"] and "pid" in e and "launch" in e["args"]):
            sys.exit(1)
    waits = sum(e["cat"] == "wait" for e in timed)
    rows = len({e["tid"] for e in timed})
    return f"{len(timed) - waits} events and {waits} waits, {rows} rows" if len(timed) > waits > 0 else sys.exit(1)


def lines_(file, text, model):
    """What the lines' milliseconds, the optimizer's and those of no line make of the profile's sum; exit 1 if the text that
    `--lines` printed is not the model's, line by line in order, with its margins."""
    j = read(file)
    for l in j["lines"]:
        float(l["kept_mb"]), list(l["kernels"])
    sum_ms = sum(l["forward_ms"] + l["backward_ms"] for l in j["lines"]) + j["optimizer_ms"] + j["no_line_ms"]
    with open(text) as f, open(model) as g:
        shown, wanted = iter(f.read().splitlines()), g.read().splitlines()
    head = next((l for l in shown if " kept " in l and l.endswith(model)), "")
    if head.split()[:-1] != ["forward", "backward", "kept"]:
        raise ValueError("no margins")
    margin = len(head) - len(model)
    with_kernels = 0
    for line, l in zip(wanted, shown):
        own, bar, kernels = l[margin:].partition(" | ")
        if own.rstrip() != line.rstrip():
            raise ValueError(f"not the model's line: {l}")
        with_kernels += bool(bar and kernels and l[:margin].strip())
    return f"{sum_ms / j['profile_ms']:.4f} {100 * sum_ms / j['profile_ms']:.2f} % of the profile's sum; {with_kernels} lines with kernels"


def optimizer_bytes_(file):
    """Bytes that the optimizer moves, a parameter."""
    j = read(file)
    moved = optimizer(j)[0] / j["parameters"]
    return f"{moved:.2f} {moved:.0f} bytes a parameter"


def medians_(key, *files):
    """Of the files of two sides in turn: the second side's median of a member by the first's."""
    of = [float(read(f)[key]) for f in files]
    one, other = statistics.median(of[::2]), statistics.median(of[1::2])
    return f"{other / one:.3f} {1e3 * one:.0f} and {1e3 * other:.0f} ms"


def times(layers_and_files):
    """Pairs of layers and milliseconds."""
    least = {}
    for n, file in zip(map(int, layers_and_files[::2]), layers_and_files[1::2]):
        j = read(file)
        least[n] = min(least.get(n, 1e9), 1e3 * (j["frontend_s"] + j["passes_s"]))
    return sorted(least.items())


def linear_(*layers_and_files):
    """Of pairs LAYERS FILE: the most milliseconds a layer of frontend and passes (with plan and verifier); then the same in words.
    The least of a number's files counts."""
    pairs = times(layers_and_files)
    return f"{max(y / x for x, y in pairs):.3f} " + ", ".join(f"{x}: {y / x:.2f} ms" for x, y in pairs)


def straight_(*layers_and_files):
    """Of the same pairs: how far any is from the line through all, as a part of it, and the line."""
    pairs = times(layers_and_files)
    mean = [sum(x) / len(pairs) for x in zip(*pairs)]
    slope = sum((x - mean[0]) * (y - mean[1]) for x, y in pairs) / sum((x - mean[0]) ** 2 for x, _ in pairs)
    beside = max(abs(y / (mean[1] + slope * (x - mean[0])) - 1) for x, y in pairs)
    return f"{beside:.3f} {100 * beside:.1f} % from {mean[1] - slope * mean[0]:.1f} + {slope:.2f} ms a layer"


def curves_(file):
    """How far bf16 lies from f32 at most, beside f32's closest seeds, in the mean of all validations and at the worst."""
    j = read(file)
    return "; ".join(f"{key} {j[key][0]:.4f} <= {j[key][1]:.4f}" for key in ("mean", "greatest"))


def compared(file):
    """A row that has a peer beside it."""
    r = read(file)
    if not r.get("peers"):
        raise ValueError(f"gradc: {r['refused']}" if "refused" in r else "no ratio: " + "; ".join((r["no_ratio"] or r["failed"]).values()))
    return r


def row_(file):
    """A row of the comparison: its speedup, and how that came about."""
    r = compared(file)
    ms = r["peers"][r["fastest"]]["ms"]
    note = "" if r["arithmetic"] else f"; this CPU has no {r['dtype']} arithmetic"
    if (r["others"] or 0) > 0.03:
        note += f"; BUSY: others {r['others']:.0%}"
    return f"{r['speedup']} {r['speedup']:.2f} ({r['fastest']} {ms:.1f} / {r['gradc_ms']:.1f} ms; {100 * r['of_floor']:.0f} % of floor{note})"


def memory_(file):
    """Its peak memory by the least of PyTorch's and JAX's."""
    r = compared(file)
    least = min(p["rss_mib"] for p in r["peers"].values())
    return f"{r['rss_mib'] / least:.3f} {r['rss_mib'] / least:.2f} ({r['rss_mib']:.0f} / {least:.0f} MiB)"


def first_call_(file):
    """gradc's first call by the least of the peers'."""
    r = compared(file)
    least = min(p["first_call_s"] for p in r["peers"].values())
    return f"{r['first_call_s'] / least:.3f} {r['first_call_s']:.2f} s beside {least:.2f} s"


if __name__ == "__main__":
    try:
        print(globals()[sys.argv[1] + "_"](*sys.argv[2:]))
    except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError, OSError) as e:
        sys.exit(str(e) if type(e) is ValueError else f"{type(e).__name__}: {e}")
