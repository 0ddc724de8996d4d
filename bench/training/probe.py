"""Does pretraining on a domain's own text show in the probe? python -m bench.training.probe

Two models of one size take the same number of steps, one on tweets, the other on Wikipedia, each
with the vocabulary of its text. The probe then asks both, and a model without any pretraining,
which hashtag was taken out of a tweet. No tweet with one of those hashtags is in the text that a
model was pretrained on.
"""

import argparse
import json
import re
import shutil
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.common import inputs
from bench.common.project import ROOT, Project
from bench.common.report import machine, write_json
from lib.run import random
from lib.run.errors import UserError

_HASHTAG = re.compile(r"#\w+")
_FEWEST_WORDS = 5
_TASK = "hashtags"


def hashtag_task(
    tweets: list[str], classes: int, examples: int
) -> tuple[list[dict[str, str]], list[str]]:
    """Tweets with one of the commonest hashtags taken out, and the tweets with none of them.

    Args:
        classes: how many hashtags to tell apart.
        examples: of each at most, drawn at random.

    Returns:
        Objects with `text` and `label`, each text once and of five words at least; the other
        tweets, to pretrain on.
    """
    tags = [{tag.lower() for tag in _HASHTAG.findall(tweet)} for tweet in tweets]
    counts = Counter(tag for found in tags for tag in found)
    chosen = {tag for tag, _ in sorted(counts.items(), key=lambda x: (-x[1], x[0]))[:classes]}
    labelled: dict[str, str] = {}
    others = []
    for tweet, found in zip(tweets, tags, strict=True):
        if not (present := found & chosen):
            others.append(tweet)
        elif len(present) == 1:
            text = _HASHTAG.sub(lambda x: "" if x[0].lower() in chosen else x[0], tweet)
            if len(text.split()) >= _FEWEST_WORDS:
                labelled[" ".join(text.split())] = present.pop()
    taken: Counter[str] = Counter()
    rows = sorted(labelled.items())
    result = []
    for number in random.generator(1, "probe bench").permutation(len(rows)):
        text, label = rows[number]
        taken[label] += 1
        if taken[label] <= examples:
            result.append({"text": text, "label": label})
    return result, others


def pretrain(folder: Path, text: Path, params: dict[str, Any]) -> Project:
    """The data stages and pretrain in a project of its own."""
    project = Project(folder, params)
    shutil.copyfile(text, project.path("data/raw/text.txt"))
    project.stage("preprocess", "data/raw", "data/corpus")
    project.stage("sample5M", "data/corpus", "data/sample")
    project.stage("vocab", "data/sample", "data/sample", "data/vocab")
    project.stage("split", "data/corpus", "data/shards")
    project.stage("records", "main", "data/shards", "data/vocab", "data/records/main")
    project.stage(
        "pretrain", "main", "data/records/main", "data/vocab", "data/vocab", "models/main"
    )
    return project


def params(options: argparse.Namespace, document: str) -> dict[str, Any]:
    return {
        "preprocess": {
            "input": "data/raw",
            "document": document,
            # Tweets are seldom more than a sentence; cut in two they would be hardly longer rows.
            "sentences": "line" if document == "line" else "split",
            "clean": {"unescape_html": True},
        },
        "vocab": {"size": 4000},
        # A tweet has no next sentence.
        "records": {"next_sentence": False, "dupe_factor": 1},
        "phases": {"main": {"max_seq_length": 32}},
        "pretrain": {
            "model": {
                "num_hidden_layers": 2,
                "hidden_size": 64,
                "num_attention_heads": 2,
                "intermediate_size": 256,
            },
            "steps": options.steps,
            "batch_size": 32,
            "warmup_steps": 0.05,
            "evaluate_every": options.steps,
            "checkpoint_every": options.steps,
        },
        "probe": {
            "tasks": {
                _TASK: {
                    "kind": "classification",
                    "data": "data/labelled/hashtags.jsonl",
                    "text_field": "text",
                    "label_field": "label",
                    "model": "models/main",
                    "baseline": "models/base/wikipedia",
                    "epochs": 6,
                    "batch_size": 32,
                    "learning_rate": 1e-3,
                    "max_seq_length": 32,
                    "seeds": options.seeds,
                }
            }
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training.probe", description=__doc__)
    parser.add_argument("--tweets", type=Path, required=True, help="text file, a tweet a line")
    parser.add_argument("--wikitext", type=Path, required=True, help="train file of WikiText-2")
    parser.add_argument("--steps", type=int, default=1500, help="of pretraining (default 1500)")
    parser.add_argument("--megabytes", type=int, default=3, help="of each text (default 3)")
    parser.add_argument("--seeds", type=int, default=5, help="of fine-tuning (default 5)")
    parser.add_argument("--classes", type=int, default=8, help="hashtags (default 8)")
    parser.add_argument("--examples", type=int, default=150, help="of each at most (default 150)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/probe", help="scratch")
    options = parser.parse_args()
    before = machine(["numpy", "tensorflow"])
    try:
        for path in (options.tweets, options.wikitext):
            if not path.is_file():
                raise UserError(f"no file {path}; give a path that is there")
        tweets = options.tweets.read_text(encoding="utf-8").split("\n")
        labelled, others = hashtag_task(tweets, options.classes, options.examples)
        texts = {name: options.work / f"{name}.txt" for name in ("tweets", "wikipedia")}
        options.work.mkdir(parents=True, exist_ok=True)
        everything = options.work / "others.txt"
        everything.write_text("".join(f"{tweet}\n" for tweet in others), encoding="utf-8")
        inputs.first_lines(everything, texts["tweets"], options.megabytes)
        inputs.wikitext_documents(options.wikitext, texts["wikipedia"], options.megabytes)
        settings = params(options, "line"), params(options, "blank_line")
        folders = options.work / "own", options.work / "other"
        with ThreadPoolExecutor() as both:
            own, other = both.map(pretrain, folders, texts.values(), settings)
        shutil.copytree(other.folder / "models/main", own.path("models/base/wikipedia"))
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in labelled)
        own.path("data/labelled/hashtags.jsonl").write_text(lines, encoding="utf-8")
        task = settings[0]["probe"]["tasks"][_TASK]
        own.stage("probe", _TASK, task["data"], task["model"], task["baseline"])
    except UserError as error:
        sys.exit(f"probe: error: {error}")
    results = own.folder / "results/probe" / _TASK
    metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    print((own.folder / "output.log").read_text(encoding="utf-8").strip())
    print((results / "runs.csv").read_text(encoding="utf-8"))
    means = [metrics[name]["f1_macro"] for name in ("model", "baseline", "untrained")]
    passed = means == sorted(means, reverse=True)
    if options.out:
        write_json(options.out, {"machine": before, "metrics": metrics, "passed": passed})
    if not passed:
        sys.exit("probe: the order is not own text, other text, none")


if __name__ == "__main__":
    main()
