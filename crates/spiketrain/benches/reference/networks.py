"""The training step of two of our networks in eager PyTorch: speed, memory and losses.

    python networks.py [--network s|vgg9|s-max|vgg9-max] [--steps 4] [--batch 32] [--threads 1]
                       [--train 20] [--threshold 1] [--inference] [--save FILE | --load FILE]

Network S is 32C3-32C3-AP2-64C3-64C3-AP2-128C3-128C3-AP2-FC10, VGG-9 is 64C3-64C3-AP2-128C3-128C3-
AP2-256C3-256C3-256C3-AP2-FC1024-FC100 with ten votes a class and no dropout; both with batch norm
over time and the neuron u = v/4 + x, s = (u > 1), v = u (1 - s), slope max(0, 1 - |u - 1|), or
another threshold than 1. With -max the pools give the largest value, so that spikes stay binary.
Cross-entropy of the outputs' mean over time; SGD, rate 0.1, momentum 0.9. A still image is the
input of all steps, so the first convolution and norm run once.

--save writes initial weights, images and labels as safetensors, for our program to start from the
same; --load reads them. --inference measures the trained network's evaluation. The one line printed is JSON: losses, seconds a step (processor and wall
clock, median after two steps), peak memory above the libraries', share of spikes of each layer.
"""

import argparse
import json
import resource
import statistics
import struct
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return (a > 0).to(a.dtype)

    @staticmethod
    def backward(ctx, d):
        (a,) = ctx.saved_tensors
        return d * torch.clamp(1 - a.abs(), min=0)


class Lif(nn.Module):
    """Neurons over [time, sample, ...]."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        v, spikes = torch.zeros_like(x[0]), []
        for step in x:
            u = 0.25 * v + step
            s = Spike.apply(u - self.threshold)
            v = u * (1 - s)
            spikes.append(s)
        out = torch.stack(spikes)
        self.rate = float(out.detach().mean())
        return out


class Net(nn.Module):
    def __init__(self, features, hidden, votes, threshold):
        super().__init__()
        self.layers, channels, size = nn.ModuleList(), 3, 32
        for item in features:
            if item in POOLS:
                self.layers.append(POOLS[item](2))
                size //= 2
            else:
                conv = nn.Conv2d(channels, item, 3, padding=1)
                self.layers.extend([conv, nn.BatchNorm2d(item), Lif(threshold)])
                channels = item
        self.layers.append(nn.Flatten())
        sizes = [channels * size * size, *hidden, 10 * votes]
        self.layers.extend(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.votes = votes

    def forward(self, images, n_steps):
        x, is_steady = images, True
        for layer in self.layers:
            if isinstance(layer, Lif):
                x = x.unsqueeze(0).expand(n_steps, *x.shape) if is_steady else x
                x = layer(x.reshape(n_steps, -1, *x.shape[-3:])).flatten(0, 1)
                is_steady = False
            else:
                x = layer(x)
        out = x.reshape(n_steps, images.shape[0], 10, self.votes).mean(3)
        return out.mean(0)


POOLS = {"A": nn.AvgPool2d, "M": nn.MaxPool2d}
NETWORKS = {
    "s": ([32, 32, "A", 64, 64, "A", 128, 128, "A"], [], 1),
    "vgg9": ([64, 64, "A", 128, 128, "A", 256, 256, 256, "A"], [1024], 10),
}
for name, (features, *rest) in list(NETWORKS.items()):
    NETWORKS[f"{name}-max"] = (["M" if f == "A" else f for f in features], *rest)


def write_safetensors(path, arrays):
    header, offset = {}, 0
    for name, a in arrays.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(a.shape),
            "data_offsets": [offset, offset + a.nbytes],
        }
        offset += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in arrays.values():
            f.write(np.ascontiguousarray(a).tobytes())


def read_safetensors(path):
    with open(path, "rb") as f:
        (n,) = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(n)), f.read()
    return {
        name: np.frombuffer(data[slice(*h["data_offsets"])], np.float32).reshape(h["shape"]).copy()
        for name, h in header.items()
        if name != "__metadata__"
    }


def batches(n, batch):
    """Noise over one smooth pattern a class: learnable, with the spectrum of no image."""
    rng = np.random.default_rng(1)
    patterns = rng.normal(size=(10, 3, 4, 4)).astype(np.float32).repeat(8, 2).repeat(8, 3)
    labels = rng.integers(0, 10, (n, batch))
    noise = rng.normal(size=(n, batch, 3, 32, 32)).astype(np.float32)
    return 0.5 * patterns[labels] + noise, labels.astype(np.float32)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=NETWORKS, default="s")
    for name, default in [("steps", 4), ("batch", 32), ("threads", 1), ("train", 20)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threshold", type=float, default=1)
    parser.add_argument("--inference", action="store_true")
    parser.add_argument("--save")
    parser.add_argument("--load")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    net = Net(*NETWORKS[args.network], args.threshold)
    if args.load:
        arrays = read_safetensors(args.load)
        images, labels = arrays["images"], arrays["labels"]
        with torch.no_grad():
            for i, p in enumerate(net.parameters()):
                p.copy_(torch.from_numpy(arrays[f"parameter{i:02}"]))
    else:
        images, labels = batches(args.train, args.batch)
    if args.save:
        arrays = {f"parameter{i:02}": p.detach().numpy() for i, p in enumerate(net.parameters())}
        write_safetensors(args.save, {**arrays, "images": images, "labels": labels})
    images, labels = torch.from_numpy(images), torch.from_numpy(labels).long()

    before = peak()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    losses, processor, wall = [], [], []
    for x, y in list(zip(images, labels))[: args.train]:
        start = time.process_time(), time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x, args.steps), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        processor.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    if args.inference:
        processor, wall = [], []
        net.eval()
        for x in images[: args.train]:
            start = time.process_time(), time.perf_counter()
            with torch.no_grad():
                net(x, args.steps)
            processor.append(time.process_time() - start[0])
            wall.append(time.perf_counter() - start[1])
    print(
        json.dumps(
            {
                "framework": f"torch {torch.__version__}",
                **{k: getattr(args, k) for k in ("network", "steps", "batch", "threads", "inference")},
                "losses": [round(v, 5) for v in losses],
                "processor_seconds": statistics.median(processor[2:]),
                "wall_seconds": statistics.median(wall[2:]),
                "peak_mb": round(peak()),
                "above_libraries_mb": round(peak() - before),
                "spikes": [round(m.rate, 3) for m in net.layers if isinstance(m, Lif)],
            }
        )
    )


if __name__ == "__main__":
    main()
