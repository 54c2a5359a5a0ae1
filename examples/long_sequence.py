"""TokenRank of a sequence that is spread over processes: each holds some of the queries and keys, and none all of them.

On the processors of one machine:

    torchrun --nproc-per-node 4 examples/long_sequence.py --tokens 8192

On 8 GPUs of one, or of several (see docs/howto/long-sequences.md for sizes and times):

    torchrun --nproc-per-node 8 examples/long_sequence.py --tokens 131072 --device cuda --timeout 600

The queries and keys are made up: three topics, and neighbours that resemble each other. Yours come from a model that
runs sequence-parallel: whatever part of q and k a rank has is what it gives.
"""

from __future__ import annotations

import argparse
import os
import time

import torch
import torch.distributed as dist
from torch import Tensor

import tokenrank as tr


def main() -> None:
    """Make the shards, build the chain, ask it, and say what was found."""
    asked = arguments()
    gpu = asked.device == "cuda"
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # words between ranks go by gloo, shards between GPUs by NCCL
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    ring = tr.distributed.Ring(timeout=asked.timeout)
    tokens = tr.distributed.zigzag(asked.tokens, ring.size)[ring.rank]
    q, k = (made_up(tokens, asked.heads, asked.width, seed).to(asked.device) for seed in (1, 2))

    chain = tr.distributed.from_qk(q, k, ring, is_causal=asked.causal, tokens=tokens)
    begun = time.perf_counter()
    rank = chain.tokenrank(tol=1e-4)
    seconds = time.perf_counter() - begun
    walk = chain.bounce([asked.tokens // 2], n=2)

    if ring.rank == 0:
        certificate = rank.certificate
        print(f"{asked.tokens} tokens, {asked.heads} heads on {ring.size} ranks, {len(tokens)} tokens on this one")
        print(
            f"TokenRank in {seconds:.2f} s, {certificate.applies} products, error ≤ {certificate.error_bound.max():.1e}"
        )
        print(
            f"most arrives at token {int(rank.values.mean(0).argmax())}; two bounces from the middle lead to "
            f"token {int(walk.values.mean(0).argmax())}"
        )
    if asked.check:
        difference = compared(asked, rank.values)
        if ring.rank == 0:
            print(f"on one device: the same to {difference:.1e}")
    dist.destroy_process_group()


def made_up(tokens: Tensor, heads: int, width: int, seed: int) -> Tensor:
    """Features of some of the tokens, (heads, n, width): the same numbers for a token, whoever has it."""
    generator = torch.Generator().manual_seed(seed)
    topics = torch.randn(heads, 3, width, generator=generator)
    waves = torch.randn(heads, 8, width, generator=generator)
    angle = tokens[:, None] / (4.0 * 2.0 ** torch.arange(4))
    place = torch.cat([angle.sin(), angle.cos()], -1)
    return topics[:, tokens * 7919 % 1009 % 3] + 0.5 * place @ waves


def compared(asked: argparse.Namespace, values: Tensor) -> float:
    """The largest difference to the chain of all tokens on one device, which has to have room for them."""
    everything = torch.arange(asked.tokens)
    q, k = (made_up(everything, asked.heads, asked.width, seed) for seed in (1, 2))
    one = tr.AttentionChain.from_qk(q, k, is_causal=asked.causal).tokenrank(tol=1e-6)
    return float((values.cpu() - one.values).abs().sum(-1).max())


def arguments() -> argparse.Namespace:
    """What can be set."""
    parser = argparse.ArgumentParser(description="TokenRank of a sequence that is spread over processes.")
    parser.add_argument("--tokens", type=int, default=8192, help="N, on all ranks together")
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--width", type=int, default=64, help="d of queries and keys")
    parser.add_argument("--causal", action="store_true", help="token i sees tokens 0 … i")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds until a silent rank is given up")
    parser.add_argument("--check", action="store_true", help="compare with one device")
    return parser.parse_args()


if __name__ == "__main__":
    main()
