#!/usr/bin/env python3
"""gradc's training step against PyTorch's, both sides interleaved in one run, so that a drifting machine
slows both. Prints milliseconds of every pair and the median ratio (gradc / PyTorch: below 1 is faster).

    python3 -m venv ~/peers && ~/peers/bin/pip install torch numpy
    tests/bench/compare.py --peer-python ~/peers/bin/python --peers PATH/TO/peers.py --config nano --batch 16 --seq 256

The peers' script prints one JSON line a run with ms and parameters. A ratio is refused if the models'
parameter counts differ.
"""
import argparse, json, os, statistics, subprocess, sys

CONFIGS = {"char": (4, 128, 4, 65), "nano": (6, 384, 6, 65), "small": (2, 256, 4, 256), "gpt2": (12, 768, 12, 50257)}
HERE = os.path.dirname(os.path.abspath(__file__))

ap = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
ap.add_argument("--peer-python", required=True, help="a Python that has PyTorch")
ap.add_argument("--peers", required=True, help="the script that times the peer")
ap.add_argument("--peer", default="torch")
ap.add_argument("--config", default="nano", choices=list(CONFIGS))
ap.add_argument("--batch", type=int, default=16)
ap.add_argument("--seq", type=int, default=256)
ap.add_argument("--pairs", type=int, default=3)
ap.add_argument("--steps", type=int, default=3)
ap.add_argument("--gradc", default=os.path.join(HERE, "../../build/gradc"))
a = ap.parse_args()


def last_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} exited with {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


layers, width, heads, vocabulary = CONFIGS[a.config]
ours = [a.gradc, "bench", os.path.join(HERE, "gpt.grad"), "--steps", str(a.steps), "--json", "--set", f"layers={layers}",
        f"d={width}", f"h={heads}", f"v={vocabulary}", f"t={a.seq}", f"b={a.batch}"]
theirs = [a.peer_python, a.peers, "--peer", a.peer, "--config", a.config, "--batch", str(a.batch), "--seq", str(a.seq),
          "--steps", str(a.steps)]
ratios = []
for i in range(a.pairs):
    g, p = last_json(ours), last_json(theirs)
    if g["parameters"] != p["parameters"]:
        sys.exit(f"not the same model: {g['parameters']} parameters against {p['parameters']}")
    if abs(g["first_loss"] - p["first_loss"]) > 0.1:
        sys.exit(f"not the same start: first loss {g['first_loss']} against {p['first_loss']}")
    ratios.append(g["ms"] / p["ms"])
    print(f"pair {i + 1}: gradc {g['ms']:.1f} ms, {a.peer} {p['ms']:.1f} ms, ratio {ratios[-1]:.2f}", flush=True)
print(json.dumps({"config": a.config, "batch": a.batch, "seq": a.seq, "peer": a.peer, "parameters": g["parameters"],
                  "ratio": round(statistics.median(ratios), 3), "pairs": [round(r, 3) for r in ratios]}))
