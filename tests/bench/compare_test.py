#!/usr/bin/env python3
"""Protects compare.py: what it refuses to compare, its medians and its floors, with a gradc and peers that only print."""
import json, os, subprocess, sys, tempfile, textwrap, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
GRADC = """
    #!{python}
    import json, sys
    say = {{"ms": 10.0, "rss_mib": 100, "parameters": 1000, "first_loss": 4.17, "first_call_s": 1.0}}
    say |= {{"peak_f32_gflops": 2.0, "read_gbs": 30.0, "copy_gbs": 15.0, "update_gbs": 20.0}} | {gradc!r}
    if "lstm" in " ".join(sys.argv):
        sys.exit("error: a scan is interpreted only")
    print("something before it")
    print(json.dumps(say))
"""
PEER = """
    import json, sys
    nan = float("nan")
    peer = sys.argv[sys.argv.index("--peer") + 1]
    say = {{"ms": 20.0, "rss_mib": 200, "parameters": 1000, "first_loss": 4.2, "first_call_s": 2.0}} | {peers!r}.get(peer, {{}})
    if "ms of turn" in say:  # the n-th run of this peer
        with open({counter!r} + peer, "a+") as f:
            f.write(".")
            f.seek(0)
            say["ms"] = say["ms of turn"][len(f.read()) - 1]
    if "exit" in say:
        sys.exit("ImportError: " + say["exit"])
    print(json.dumps(say))
"""


def compare(*flags, gradc={}, peers={}):
    with tempfile.TemporaryDirectory() as folder:
        place = lambda name: os.path.join(folder, name)
        for name, text in ("gradc", GRADC), ("peers.py", PEER):
            with open(place(name), "w") as f:
                f.write(textwrap.dedent(text).lstrip().format(python=sys.executable, gradc=gradc, peers=peers, counter=place("turns-")))
        os.chmod(place("gradc"), 0o700)
        return subprocess.run([sys.executable, os.path.join(HERE, "compare.py"), "--gradc", place("gradc"), "--peers", place("peers.py"),
                               "--peer-python", sys.executable, *flags], capture_output=True, text=True)


class Compare(unittest.TestCase):
    def row(self, pairs=1, **fakes):
        done = compare("--row", "char*", "--json", "--pairs", str(pairs), **fakes)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_the_fastest_peer_counts(self):
        r = self.row(peers={"torch": {"ms": 26.0}, "jax": {"ms": 40.0}})
        self.assertEqual((r["fastest"], r["speedup"], r["memory"], r["pairs"]), ("torch-compile", 2.0, 2.0, 1))

    def test_the_ratio_is_the_median_of_pairs(self):
        r = self.row(pairs=5, peers={"torch": {"ms of turn": [30.0, 99.0, 31.0, 29.0, 32.0]}, "torch-compile": {"ms": 60.0}, "jax": {"exit": "no"}})
        self.assertEqual((r["speedup"], r["peers"]["torch"]["ms"]), (3.1, 31.0))

    def test_other_parameters_are_refused(self):
        only = {p: {"parameters": 1001} for p in ("torch", "torch-compile", "jax")}
        r = self.row(peers=only)
        self.assertNotIn("speedup", r)
        self.assertEqual(r["no_ratio"]["jax"], "not the same model: 1000 parameters against 1001")
        shown = compare("--row", "char*", "--pairs", "1", peers=only).stdout
        self.assertEqual(shown.count("no ratio"), 3 + 2 + 3)  # each peer's cell, speedup and memory, the reasons
        self.assertNotIn("20.0 ", shown.splitlines()[1].split("no ratio")[0])

    def test_other_first_losses_are_refused(self):
        r = self.row(peers={"torch": {"first_loss": 4.28}, "torch-compile": {"first_loss": 4.269}, "jax": {"first_loss": float("nan")}})
        self.assertEqual((sorted(r["no_ratio"]), r["fastest"]), (["jax", "torch"], "torch-compile"))

    def test_one_comparison_is_refused_too(self):
        done = compare("--config", "char", "--batch", "12", "--seq", "64", peers={"torch": {"first_loss": 5.0}})
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("no ratio: not the same start: first loss 4.17 against 5.0", done.stderr)
        self.assertIn('"ratio": 0.5,', compare("--config", "char", "--pairs", "1").stdout)

    def test_what_does_not_run_is_said(self):
        shown = compare("--row", "char*", "--pairs", "1", peers={"jax": {"exit": "no jax"}}).stdout
        self.assertIn("    jax: exit 1: ImportError: no jax", shown)
        self.assertIn("2.00", shown)
        self.assertIn("gradc: exit 1: error: a scan", compare("--row", "lstm*").stdout)
        self.assertIn("--install` makes it", compare("--peer-python", "/nowhere/python").stderr)

    def test_the_floor_is_of_the_measured_rates(self):
        r = self.row()
        attention = 0.5 * 4 * 12 * 64 * 64 * 128 * 4
        floor = (6 * 1000 * 12 * 64 + 3.5 * attention) / 2e6 + 28 * 1000 / 20e6
        self.assertAlmostEqual(r["floor_ms"], floor, places=2)
        self.assertTrue(r["arithmetic"])

    def test_a_machine_without_bf16(self):
        done = compare("--row", "nano*bf16", "--pairs", "1")
        self.assertIn("this CPU has no bf16 arithmetic", done.stdout)
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("has no", compare("--row", "nano*bf16", "--pairs", "1", gradc={"peak_bf16_gflops": 4.0}).stdout)


if __name__ == "__main__":
    unittest.main()
