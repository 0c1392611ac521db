#!/usr/bin/env python3
"""Trains a GPT on text in f32 and with products of bf16, from three seeds each, and compares the losses on held-out text.

    tests/bench/curves.py                           frontend/models/gpt.grad, half as wide, on the fortunes of Debian, 500 steps
    tests/bench/curves.py --svg passes/bf16_curves.svg    the same as a picture

A curve is the losses of a run; two curves lie as far apart as their difference is in the mean over all validations, and at most.
The rule: for every seed, bf16 lies no farther from f32 of that seed (the same initial values, the same order of the text) than
the two seeds of f32 that lie closest, in the mean and at most. Prints a line a validation, then one JSON object; exit 1 if the
rule fails. The lines mark where the largest difference is more than f32's greatest loss less its least: three numbers that
happen to lie close together, so no part of the rule, but to be seen. --control shows beside it what rounding alone does: f32 of the
same seeds with --no-fuse, the same mathematics with its roundings elsewhere. It decides nothing. Results do
not depend on threads, so every run has one; --jobs says how many run at once.
"""
import argparse, concurrent.futures, glob, json, os, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "../.."))
FORTUNES = [f for f in sorted(glob.glob("/usr/share/games/fortunes/*")) if not f.endswith((".dat", ".u8"))]
SEEDS = (1, 2, 3)
FLAGS = {"f32": [], "bf16": ["--precision", "bf16"], "control": ["--no-fuse"]}

ap = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
ap.add_argument("--model", default=os.path.join(ROOT, "frontend/models/gpt.grad"))
ap.add_argument("--data", nargs="+", default=FORTUNES, help="files of text; the last tenth of each is held out")
ap.add_argument("--steps", type=int, default=500)
ap.add_argument("--every", type=int, default=10, help="steps from one validation to the next")
ap.add_argument("--windows", type=int, default=120, help="held-out sequences of a validation, the same in all")
ap.add_argument("--gradc", default=os.path.join(ROOT, "build/gradc"))
ap.add_argument("--control", action="store_true", help="also f32 with --no-fuse")
ap.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="(default: the processors)")
ap.add_argument("--svg", metavar="FILE", help="draw it there")
ap.add_argument("--set", nargs="+", default=["d=64"], help="numbers of the model")


def curve(a, kind, seed):
    """Validation losses by step."""
    command = [a.gradc, "train", a.model, "--data", *a.data, "--steps", str(a.steps), "--seed", str(seed), *FLAGS[kind],
               "--validate-every", str(a.every), "--validation-windows", str(a.windows), "--log-every", str(a.steps),
               "--sample-tokens", "0", "--threads", "1", "--json"]
    done = subprocess.run([*command, "--set", *a.set], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{kind}, seed {seed}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    said = map(json.loads, done.stdout.splitlines())
    return {j["step"]: j["validation"] for j in said if "validation" in j}


def compare(f32, other):
    """Of each validation: step, mean loss in f32, spread of its seeds, other − f32 of each seed."""
    for step in sorted(f32[SEEDS[0]]):
        losses = [f32[s][step] for s in SEEDS]
        yield step, sum(losses) / len(losses), max(losses) - min(losses), [other[s][step] - f32[s][step] for s in SEEDS]


def largest(away):
    return max(map(abs, away))


def distance(one, other):
    """Of two curves: mean and greatest absolute difference."""
    apart = [abs(one[step] - other[step]) for step in one]
    return sum(apart) / len(apart), max(apart)


def judge(f32, bf16):
    """The farthest that bf16 lies from f32 of its seed, and the closest that two seeds of f32 lie: (mean, greatest) of each."""
    away = [distance(bf16[s], f32[s]) for s in SEEDS]
    apart = [distance(f32[s], f32[r]) for s in SEEDS for r in SEEDS if s < r]
    pick = lambda of, pairs: tuple(round(of(p[n] for p in pairs), 5) for n in range(2))
    return pick(max, away), pick(min, apart)


# ---- the picture: losses above, differences below

WIDTH, LEFT, RIGHT = 640, 56, 12
COLOURS = ("#1f77b4", "#d62728", "#2ca02c")


class Panel:
    def __init__(self, top, height, steps, low, high, title):
        self.top, self.height, self.steps, self.low, self.high = top, height, steps, low, high
        self.parts = [f'<text x="{LEFT}" y="{top - 8}">{title}</text>',
                      f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{height}" fill="none" stroke="#888"/>']
        for n in range(5):
            y = low + n * (high - low) / 4
            self.parts.append(f'<text x="{LEFT - 6}" y="{self.y(y) + 4:.0f}" text-anchor="end">{y:.3g}</text>')
        for step in range(0, steps + 1, max(1, steps // 5)):
            self.parts.append(f'<text x="{self.x(step):.0f}" y="{top + height + 16}" text-anchor="middle">{step}</text>')

    def x(self, step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.steps

    def y(self, value):
        value = min(max(value, self.low), self.high)
        return self.top + self.height * (self.high - value) / (self.high - self.low)

    def points(self, pairs):
        return " ".join(f"{self.x(s):.1f},{self.y(v):.1f}" for s, v in pairs)

    def line(self, pairs, colour, dash=""):
        more = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{self.points(pairs)}" fill="none" stroke="{colour}"{more}/>')

    def area(self, pairs):
        whole = [(pairs[0][0], self.low), *pairs, (pairs[-1][0], self.low)]
        self.parts.append(f'<polygon points="{self.points(whole)}" fill="#ccc"/>')


def picture(f32, bf16, rows, control, steps):
    every = [v for c in (*f32.values(), *bf16.values()) for v in c.values()]
    losses = Panel(28, 200, steps, min(every), max(every), "held-out loss, nats a byte, by step: f32 (lines) and bf16 (dashes), three seeds")
    for s, colour in zip(SEEDS, COLOURS):
        losses.line(sorted(f32[s].items()), colour)
        losses.line(sorted(bf16[s].items()), colour, "5 3")
    ordered = sorted(spread for _, _, spread, _ in rows)
    top = 1.5 * ordered[int(0.9 * (len(ordered) - 1))]  # the first steps may leave the picture
    title = "spread of f32's seeds (grey), |bf16 − f32| (lines)"
    apart = Panel(284, 200, steps, 0, top, title + (", |f32 unfused − f32| (dots)" if control else ""))
    apart.area([(step, spread) for step, _, spread, _ in rows])
    for n, colour in enumerate(COLOURS):
        apart.line([(step, abs(away[n])) for step, _, _, away in rows], colour)
        apart.line([(step, abs(away[n])) for step, _, _, away in control], colour, "1 3")
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="508" font-family="sans-serif" font-size="12">',
                      '<rect width="100%" height="100%" fill="white"/>', *losses.parts, *apart.parts, "</svg>"]) + "\n"


def main():
    a = ap.parse_args()
    runs = [(kind, seed) for kind in FLAGS if kind != "control" or a.control for seed in SEEDS]
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        curves = dict(zip(runs, pool.map(lambda r: curve(a, *r), runs)))
    of = lambda kind: {s: curves[kind, s] for s in SEEDS}
    f32, bf16 = of("f32"), of("bf16")
    rows = list(compare(f32, bf16))
    control = list(compare(f32, of("control"))) if a.control else []
    print("{:>6} {:>10} {:>10}   {:<26}{}".format("step", "f32", "spread", "bf16 - f32 of each seed", "unfused - f32" if control else ""))
    each = lambda away: " ".join(f"{x:+.4f}" for x in away)
    for n, (step, loss, spread, away) in enumerate(rows):
        beside = each(control[n][3]) if control else ""
        print(f"{step:>6} {loss:>10.4f} {spread:>10.4f}   {each(away):<26}{beside}" + ("   more than the spread" if largest(away) > spread else ""))
    if a.svg:
        with open(a.svg, "w") as f:
            f.write(picture(f32, bf16, rows, control, a.steps))
    away, apart = judge(f32, bf16)
    mean = lambda x: round(sum(x) / len(x), 5)
    print(json.dumps({
        "validations": len(rows), "mean": [away[0], apart[0]], "greatest": [away[1], apart[1]],
        "beyond_spread": sum(largest(r[3]) > r[2] for r in rows), "signed": mean([sum(r[3]) / len(SEEDS) for r in rows]),
        "last": [round(x, 5) for x in rows[-1][3]], "last_spread": round(rows[-1][2], 5),
        **({"control": mean([largest(r[3]) for r in control])} if control else {})}))
    sys.exit(0 if away[0] <= apart[0] and away[1] <= apart[1] else 1)


if __name__ == "__main__":
    main()
