"""Where a stage's time goes: the real stage with a stopwatch round its main functions.

python -m bench.data.where STAGE OUT.json ARGUMENTS... runs the stage in this process, as `python -m
stages.STAGE ARGUMENTS...` would with one worker, and writes seconds by part. A part's seconds do
not count those of another part inside of it. What no stopwatch covers is `rest`.
"""

import importlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Part -> functions, as `module:name` or `module:class.name`, where their callers look them up.
PARTS = {
    "records": {
        "vocabulary": ["lib.vocab.tokenizer:WordPieceTokenizer.load"],
        "tokenization": ["stages.records:read_tokens"],
        "pairs": ["lib.records.shard:make_examples"],
        "rows": ["lib.records.shard:assemble"],
        "masks": ["lib.records.shard:mask_sequences"],
        "encoding": ["lib.records.tfrecord:encode"],
        "synchronising files": ["lib.run.atomic:_synchronise"],
    },
    "preprocess": {
        "cleaning": ["lib.text.cleaning.chunks:DocumentCleaner.__call__"],
        "sentences": ["lib.text.cleaning.edits:split_sentences"],
        "duplicates": ["stages.preprocess:first_occurrences"],
        "synchronising files": ["lib.run.atomic:_synchronise"],
    },
}


class Stopwatch:
    """Seconds by part, each second counted once: for the innermost part that runs."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: Counter[str] = Counter()
        self._clock = clock
        self._running = ["rest"]
        self._since = clock()

    def _turn(self) -> None:
        now = self._clock()
        self.seconds[self._running[-1]] += now - self._since  # type: ignore[assignment]
        self._since = now

    def start(self, part: str) -> None:
        self._turn()
        self._running.append(part)

    def stop(self) -> None:
        self._turn()
        self._running.pop()

    def watch(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted for `part`."""

        def watched(*arguments: Any, **named: Any) -> Any:
            self.start(part)
            try:
                return function(*arguments, **named)
            finally:
                self.stop()

        return watched


def _put_on(stopwatch: Stopwatch, part: str, place: str) -> None:
    module_name, _, name = place.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = name.split(".")
    for step in outer:
        owner = getattr(owner, step)
    setattr(owner, name, stopwatch.watch(part, getattr(owner, name)))


def main(stage: str, out: str, *arguments: str) -> None:
    stopwatch = Stopwatch()
    stopwatch.start("imports")
    module = importlib.import_module(f"stages.{stage}")
    stopwatch.stop()
    for part, places in PARTS[stage].items():
        for place in places:
            _put_on(stopwatch, part, place)
    sys.argv = [f"{stage}.py", *arguments]
    module.run_stage(module.main)
    stopwatch.start("end")
    Path(out).write_text(json.dumps(stopwatch.seconds), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
