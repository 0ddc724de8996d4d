"""Profile of a stage by its main parts: a stopwatch around their functions.

python -m bench.data.where STAGE OUT.json ARGUMENTS...

Runs the stage in this process, as `python -m stages.STAGE ARGUMENTS...` would with one worker, and
writes seconds per part. A part's time does not include a part nested in it. Time outside all parts
is `rest`.
"""

import importlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

# Part -> functions, by the names under which their callers look them up.
PARTS = {
    "records": {
        "vocabulary": ["stages.records.load_tokenizer"],
        "tokenization": ["stages.records.read_tokens"],
        "pairs": ["lib.records.shard.make_examples"],
        "assembly": ["lib.records.shard.assemble"],
        "masking": ["lib.records.shard.mask_sequences"],
        "encoding": ["lib.records.tfrecord.encode"],
        "file sync": ["lib.run.atomic._synchronise"],
    },
    "preprocess": {
        "cleaning": ["lib.text.cleaning.chunks.DocumentCleaner.__call__"],
        "sentences": ["lib.text.cleaning.edits.split_sentences"],
        "duplicates": ["lib.text.assembly.first_occurrences"],
        "file sync": ["lib.run.atomic._synchronise"],
    },
}


class Stopwatch:
    """Seconds by part; each second counts once, for the innermost running part.

    If `outer` runs for 6 s and calls `inner` for 4 s of them, the result is outer 2, inner 4.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: Counter[str] = Counter()
        self._clock = clock
        self._running = ["rest"]
        self._since = clock()

    def _count(self) -> None:
        now = self._clock()
        self.seconds[self._running[-1]] += now - self._since  # type: ignore[assignment]
        self._since = now

    def start(self, part: str) -> None:
        self._count()
        self._running.append(part)

    def stop(self) -> None:
        self._count()
        self._running.pop()

    def watch(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a function so that its time counts for `part`."""

        def watched(*arguments: Any, **named: Any) -> Any:
            self.start(part)
            try:
                return function(*arguments, **named)
            finally:
                self.stop()

        return watched


def main(stage: str, out: str, *arguments: str) -> None:
    stopwatch = Stopwatch()
    stopwatch.start("imports")
    module = importlib.import_module(f"stages.{stage}")
    stopwatch.stop()
    for part, names in PARTS[stage].items():
        for name in names:
            holder, _, attribute = name.rpartition(".")
            setattr(resolve_name(holder), attribute, stopwatch.watch(part, resolve_name(name)))
    sys.argv = [f"{stage}.py", *arguments]
    module.run_stage(module.main)
    stopwatch.start("end")
    Path(out).write_text(json.dumps(stopwatch.seconds), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
