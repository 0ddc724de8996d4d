"""Paths of the pipeline's files, relative to the project's root.

dvc.yaml declares the same paths as outputs and dependencies; a test compares the two.
"""

from pathlib import Path

CODE = Path("data/code")
PHASES = Path("data/phases")
DEMO = Path("data/demo")
CORPUS = Path("data/corpus")
SAMPLE = Path("data/sample")
VOCAB = Path("data/vocab")
SHARDS = Path("data/shards")
EXTRA = Path("data/extra")
RECORDS = Path("data/records")
MODELS = Path("models")
SAVED_MODELS = MODELS / "saved"
BASE_MODELS = MODELS / "base"
STATES = MODELS / "state"
UNFINISHED_MODELS = MODELS / "unfinished"
RESULTS = Path("results")
