"""Does pretraining on a domain's own text help? Fine-tuned models on a hashtag task.

Two models of the same size are pretrained for the same number of steps, one on tweets, the other on
Wikipedia, each with the vocabulary of its text. Both, and the network without pretraining, are then
fine-tuned to predict which hashtag was removed from a tweet. Tweets with one of these hashtags are
not part of any pretraining text.
"""

import argparse
import json
import re
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.common import cli, inputs
from bench.common.project import Project
from bench.common.report import Row
from lib.run import random

_HASHTAG = re.compile(r"#\w+")
_MIN_WORDS = 5
_TASK = "hashtags"


def hashtag_task(
    tweets: list[str], classes: int, examples: int
) -> tuple[list[dict[str, str]], list[str]]:
    """Splits tweets into labelled examples and text for pretraining.

    With the labels #sun and #rain, `so much #Sun #today` becomes the example `so much #today` with
    the label `#sun`. A tweet with several labels or fewer than five words is in neither part.

    Args:
        classes: number of labels: the most frequent hashtags.
        examples: maximum number of examples per label, drawn at random.

    Returns:
        Objects with `text` and `label`, without duplicate texts; the tweets without any of the
        labels.
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
            if len(text.split()) >= _MIN_WORDS:
                labelled[" ".join(text.split())] = present.pop()
    drawn: Counter[str] = Counter()
    pairs = sorted(labelled.items())
    task = []
    for number in random.generator(1, "probe bench").permutation(len(pairs)):
        text, label = pairs[number]
        drawn[label] += 1
        if drawn[label] <= examples:
            task.append({"text": text, "label": label})
    return task, others


def pretrain(folder: Path, text: Path, params: dict[str, Any]) -> Project:
    """Runs the data stages and pretrain on a text, in a project of its own."""
    project = Project(folder, params)
    shutil.copyfile(text, project.path("data/raw/text.txt"))
    project.prepare_text()
    project.records()
    project.pretrain()
    return project


def params(options: argparse.Namespace, document: str) -> dict[str, Any]:
    return {
        "preprocess": {
            "document": document,
            # Most tweets are a single sentence; splitting them would gain little.
            "sentences": "line" if document == "line" else "split",
            "clean": {"unescape_html": True},
        },
        "vocab": {"size": 4000},
        # Tweets have no next sentence.
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
    parser = cli.make_parser("training.probe", __doc__, required=["tweets", "wikitext"])
    cli.add(parser, "--steps", 1500, "pretraining steps")
    cli.add(parser, "--megabytes", 3, "size of each text")
    cli.add(parser, "--seeds", 5, "fine-tuning seeds")
    cli.add(parser, "--classes", 8, "number of hashtags")
    cli.add(parser, "--examples", 150, "maximum per hashtag")
    options = cli.parse(parser)
    tweets = options.tweets.read_text(encoding="utf-8").split("\n")
    labelled, others = hashtag_task(tweets, options.classes, options.examples)
    texts = {name: options.work / f"{name}.txt" for name in ("tweets", "wikipedia")}
    options.work.mkdir(parents=True, exist_ok=True)
    unlabelled = options.work / "unlabelled.txt"
    unlabelled.write_text("".join(f"{tweet}\n" for tweet in others), encoding="utf-8")
    inputs.write_first_lines(unlabelled, texts["tweets"], options.megabytes)
    inputs.write_wikitext(options.wikitext, texts["wikipedia"], options.megabytes)
    settings = params(options, "line"), params(options, "blank_line")
    folders = options.work / "own", options.work / "other"
    with ThreadPoolExecutor() as pool:
        own, other = pool.map(pretrain, folders, texts.values(), settings)
    shutil.copytree(other.folder / "models/main", own.path("models/base/wikipedia"))
    lines = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in labelled)
    own.path("data/labelled/hashtags.jsonl").write_text(lines, encoding="utf-8")
    metrics = own.probe(_TASK)
    names = ("model", "baseline", "untrained")
    row: Row = {"name": "F1, highest with own text and lowest without pretraining"}
    row |= {name: metrics[name]["f1_macro"] for name in names}
    row["passed"] = row["model"] >= row["baseline"] >= row["untrained"]
    cli.finish(options, {"metrics": metrics}, results=[row])


if __name__ == "__main__":
    cli.run_main(main)
