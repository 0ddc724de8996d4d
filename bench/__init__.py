"""Benchmarks of the pipeline against other tools. Not part of the pipeline; see README.md."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "bench/peers"
