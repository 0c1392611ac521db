#!/usr/bin/env python3
"""Times a training step of a model in PyTorch or JAX: the other side of compare.py.

    build/peers/bin/python tests/bench/peers.py --peer torch --model gpt --config gpt2 --batch 4 --seq 64
    build/peers/bin/python tests/bench/peers.py --peer jax --model encdec --config base --batch 16 --seq 32 --dtype bf16

The models are those of gpt.grad, encdec.grad and lstm.grad beside this file: pre-norm layers, learned
positions, a bias in every map, a query map and one for keys and values, a tied head, the mean cross entropy.
They are written once, in `loss`, over the operations that a framework has: `Torch` and `Jax` below. A step copies a
batch in and runs forward, backward and AdamW over every parameter, without clipping.

Each framework runs as its users run it: PyTorch eagerly or through torch.compile, with its fused attention, fused
AdamW and, in bf16, autocast; JAX as one jitted function that updates its state in place, with the operands of
products rounded to bf16 and their results in f32. Parameters and moments are f32 in all.

Prints one JSON line: `ms` and `min_ms` of the timed steps (the first two are not), `first_call_s` (trace, compile and
the first step), `rss_mib` at the peak, `parameters`, and the loss of the first and the last step.
"""
import argparse, json, os, resource, statistics, time

CONFIGS = {  # layers, width, heads, vocabulary
    "char": (4, 128, 4, 65),
    "nano": (6, 384, 6, 65),
    "small": (2, 256, 4, 256),
    "base": (6, 512, 8, 8192),
    "gpt2": (12, 768, 12, 50257),
}
PEERS = ["torch", "torch-compile", "jax"]
MODELS = ["gpt", "encdec", "lstm"]
RATE, BETA1, BETA2, EPS, DECAY = 3e-4, 0.9, 0.999, 1e-8, 0.01  # AdamW, as `train` of the models says
SPREAD = 0.02  # of the initial matrices; biases are 0, gains 1


# ---- the models; `o` is the framework, `p` a tree of its parameters

def parameters(o, a):
    def attention():
        return {"q": o.map(a.width, a.width), "kv": o.map(a.width, 2 * a.width), "out": o.map(a.width, a.width)}

    def layer(cross=False):
        own = {"norm": o.gains(a.width), "attention": attention()}
        if cross:
            own |= {"cross_norm": o.gains(a.width), "cross": attention()}
        return own | {"mlp_norm": o.gains(a.width), "up": o.map(a.width, 4 * a.width), "down": o.map(4 * a.width, a.width)}

    p = {"token": o.normal(a.vocabulary, a.width), "position": o.normal(a.seq, a.width), "norm": o.gains(a.width)}
    if a.model == "lstm":
        return p | {"lstm": o.lstm_parameters(a.layers, a.width)}
    if a.model == "encdec":
        p["encoder"] = [layer() for _ in range(a.layers)]
    return p | {"decoder": [layer(cross=a.model == "encdec") for _ in range(a.layers)]}


def attention(o, p, x, memory, causal):
    keys, values = o.halves(o.apply(p["kv"], memory))
    return o.apply(p["out"], o.attend(o.apply(p["q"], x), keys, values, causal))


def layer(o, p, x, causal, memory=None):
    y = o.norm(p["norm"], x)
    x = x + attention(o, p["attention"], y, y, causal)
    if memory is not None:
        x = x + attention(o, p["cross"], o.norm(p["cross_norm"], x), memory, False)
    return x + o.apply(p["down"], o.gelu(o.apply(p["up"], o.norm(p["mlp_norm"], x))))


def loss(o, p, source, token, target):
    memory = None
    if "encoder" in p:
        memory = o.look_up(p["token"], source) + p["position"]
        for q in p["encoder"]:
            memory = layer(o, q, memory, causal=False)
    x = o.look_up(p["token"], token) + p["position"]
    if "lstm" in p:
        x = o.lstm(p["lstm"], x)
    for q in p.get("decoder", []):
        x = layer(o, q, x, causal=True, memory=memory)
    return o.cross_entropy(o.scores(p["token"], o.norm(p["norm"], x)), target)


# ---- the frameworks: parameters, operations, and step(batch) → loss

class Torch:
    def __init__(self, a):
        import torch
        self.torch, self.f, self.a = torch, torch.nn.functional, a
        torch.set_num_threads(a.threads)
        torch.manual_seed(0)
        self.trained = []
        p = parameters(self, a)
        self.count = sum(x.numel() for x in self.trained)
        self.adamw = torch.optim.AdamW(self.trained, lr=RATE, betas=(BETA1, BETA2), eps=EPS, weight_decay=DECAY, fused=True)
        forward = lambda *batch: loss(self, p, *batch)
        self.forward = torch.compile(forward) if a.peer == "torch-compile" else forward
        self.batch = [torch.empty(a.batch, a.seq, dtype=torch.long) for _ in range(3)]

    def trainable(self, tensor):
        self.trained.append(self.torch.nn.Parameter(tensor))
        return self.trained[-1]

    def normal(self, *shape):
        return self.trainable(self.torch.empty(*shape).normal_(0, SPREAD))

    def gains(self, n):
        return self.trainable(self.torch.ones(n)), self.trainable(self.torch.zeros(n))

    def map(self, n, m):
        return self.normal(m, n), self.trainable(self.torch.zeros(m))

    def lstm_parameters(self, layers, width):
        lstm = self.torch.nn.LSTM(width, width, layers, batch_first=True)
        for x in lstm.parameters():
            x.data.normal_(0, SPREAD) if x.dim() > 1 else x.data.zero_()
            self.trained.append(x)
        return lstm

    def look_up(self, table, ids):
        return self.f.embedding(ids, table)

    def apply(self, p, x):
        return self.f.linear(x, *p)

    def scores(self, table, x):
        return self.f.linear(x, table)

    def norm(self, p, x):
        return self.f.layer_norm(x, (self.a.width,), *p)

    def gelu(self, x):
        return self.f.gelu(x, approximate="tanh")

    def halves(self, x):
        return x.chunk(2, dim=-1)

    def attend(self, *qkv_causal):
        *qkv, causal = qkv_causal
        by_head = (x.unflatten(-1, (self.a.heads, -1)).transpose(1, 2) for x in qkv)
        return self.f.scaled_dot_product_attention(*by_head, is_causal=causal).transpose(1, 2).flatten(2)

    def lstm(self, p, x):
        return p(x)[0]

    def cross_entropy(self, scores, target):
        return self.f.cross_entropy(scores.flatten(0, 1).float(), target.flatten())

    def step(self, batch):
        for mine, given in zip(self.batch, batch):
            mine.copy_(self.torch.from_numpy(given))
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.a.dtype == "bf16"):
            value = self.forward(*self.batch)
        value.backward()
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return value.item()


class Jax:
    def __init__(self, a):
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax, jax.numpy as jnp, numpy
        self.jax, self.np, self.a = jax, jnp, a
        self.dtype = jnp.bfloat16 if a.dtype == "bf16" else jnp.float32
        self.random = numpy.random.default_rng(0)
        p = parameters(self, a)
        self.count = sum(x.size for x in jax.tree.leaves(p))
        zeros = lambda: jax.tree.map(jnp.zeros_like, p)
        self.state = p, zeros(), zeros(), jnp.zeros((), jnp.int32)
        self.train = jax.jit(self.update, donate_argnums=0)

    def normal(self, *shape):
        return self.np.asarray(SPREAD * self.random.standard_normal(shape, dtype="float32"))

    def gains(self, n):
        return self.np.ones(n), self.np.zeros(n)

    def map(self, n, m):
        return self.normal(n, m), self.np.zeros(m)

    def lstm_parameters(self, layers, width):  # two biases a layer, as PyTorch's
        return [(self.map(width, 4 * width), self.map(width, 4 * width)) for _ in range(layers)]

    def look_up(self, table, ids):
        return table[ids]

    def product(self, x, w):
        return self.np.matmul(x.astype(self.dtype), w.astype(self.dtype), preferred_element_type=self.np.float32)

    def apply(self, p, x):
        return self.product(x, p[0]) + p[1]

    def scores(self, table, x):
        return self.product(x, table.T)

    def norm(self, p, x):
        away = x - x.mean(-1, keepdims=True)
        return away * self.jax.lax.rsqrt((away * away).mean(-1, keepdims=True) + 1e-5) * p[0] + p[1]

    def gelu(self, x):
        return self.jax.nn.gelu(x, approximate=True)

    def halves(self, x):
        return self.np.split(x, 2, axis=-1)

    def attend(self, *qkv_causal):
        *qkv, causal = qkv_causal
        by_head = (x.reshape(*x.shape[:2], self.a.heads, -1) for x in qkv)
        return self.jax.nn.dot_product_attention(*by_head, is_causal=causal).reshape(qkv[0].shape)

    def lstm(self, p, x):
        nn = self.jax.nn
        for of_input, of_state in p:
            def turn(state, given, of_state=of_state):
                hidden, cell = state
                i, f, g, o = self.np.split(given + self.apply(of_state, hidden), 4, axis=-1)
                cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * self.np.tanh(g)
                hidden = nn.sigmoid(o) * self.np.tanh(cell)
                return (hidden, cell), hidden

            start = self.np.zeros((self.a.batch, self.a.width))
            turns = self.np.swapaxes(self.apply(of_input, x), 0, 1)
            x = self.np.swapaxes(self.jax.lax.scan(turn, (start, start), turns)[1], 0, 1)
        return x

    def cross_entropy(self, scores, target):
        chosen = self.np.take_along_axis(self.jax.nn.log_softmax(scores), target[..., None], axis=-1)
        return -chosen.mean()

    def update(self, state, *batch):
        p, m, v, n = state
        value, g = self.jax.value_and_grad(lambda p: loss(self, p, *batch))(p)
        n = n + 1
        every = self.jax.tree.map
        m = every(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = every(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        scale, root = RATE / (1 - BETA1**n), (1 - BETA2**n) ** -0.5
        p = every(lambda p, m, v: (1 - RATE * DECAY) * p - scale * m / (root * self.np.sqrt(v) + EPS), p, m, v)
        return value, (p, m, v, n)

    def step(self, batch):
        value, self.state = self.train(self.state, *(self.np.array(x) for x in batch))
        self.jax.block_until_ready(self.state)
        return float(value)


def main():
    ap = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    ap.add_argument("--peer", required=True, choices=PEERS)
    ap.add_argument("--model", default="gpt", choices=MODELS)
    ap.add_argument("--config", default="char", choices=list(CONFIGS), help="layers, width, heads, vocabulary")
    ap.add_argument("--batch", type=int, default=12)
    ap.add_argument("--seq", type=int, default=64)
    ap.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    ap.add_argument("--steps", type=int, default=8, help="timed")
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of PyTorch; JAX takes what there is")
    a = ap.parse_args()
    a.layers, a.width, a.heads, a.vocabulary = CONFIGS[a.config]
    peer = (Jax if a.peer == "jax" else Torch)(a)
    import numpy
    random = numpy.random.default_rng(1)
    dtype = "int32" if a.peer == "jax" else "int64"
    batch = [random.integers(0, a.vocabulary, (a.batch, a.seq), dtype) for _ in range(3)]

    times, losses = [], []
    for _ in range(a.steps + 2):
        begin = time.perf_counter()
        losses.append(peer.step(batch))
        times.append(time.perf_counter() - begin)
    timed = times[2:]
    print(json.dumps({
        "peer": a.peer, "model": a.model, "config": a.config, "batch": a.batch, "seq": a.seq, "dtype": a.dtype,
        "ms": round(1e3 * statistics.median(timed), 3), "min_ms": round(1e3 * min(timed), 3),
        "first_call_s": round(times[0], 3), "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "parameters": peer.count, "first_loss": round(losses[0], 4), "loss": round(losses[-1], 4)}))


if __name__ == "__main__":
    main()
