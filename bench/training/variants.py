"""The demo with another architecture or another vocabulary, for equal processor time.

`--set architectures`: a ModernBERT (the demo) and BERTs of as many weights. `--set vocabularies`:
WordPiece (the demo), byte-level BPE and Unigram of the same size, all of lower-cased text without
accents. Everything else is as in the demo. The text, and the words of the test text that are
masked, are the same for all.

The demo makes --steps; the others make as many as fit into the time that these take, by short runs
of all, one at a time, on a machine that must otherwise be idle. The runs are single-threaded
processes; those that have finished are kept, so that the same call continues.
"""

import argparse
import json
import shutil
from typing import Any

import yaml

from bench import ROOT
from bench.common import cli
from bench.common.jobs import ONE_THREAD, run_parallel
from bench.common.project import CALIBRATION, Project, is_prepared
from bench.common.report import Row, read_json
from bench.common.unigram import train_unigram
from bench.training.architectures import BERT, SMALL_INTERMEDIATE
from bench.training.summary import mean_and_deviation
from lib.run.atomic import write_text
from lib.vocab.library_files import vocabulary_of
from lib.vocab.library_tokenizer import LibraryTokenizer

_CALIBRATION = {
    "steps": 200,
    "warmup_steps": 0.1,
    "log_every": 20,
    "evaluate_every": 200,
    "max_dev_sequences": 8,
}
_MEASURES = ("bits_per_character", "code_length_per_character", "mlm_accuracy", "word_accuracy")
_PREPARED = "prepared"
_UNIGRAM = "tokenizers/unigram/tokenizer.json"


def _bert(length: int) -> dict[str, Any]:
    model = {"architecture": BERT, "intermediate_size": SMALL_INTERMEDIATE[BERT]}
    return {
        "phases": {"main": {"max_seq_length": length}},
        # As many tokens per step as the demo.
        "pretrain": {"model": model, "batch_size": 2048 // length},
    }


# Set -> variant -> what it changes in the demo. The first of a set is the demo.
SETS: dict[str, dict[str, dict[str, Any]]] = {
    "architectures": {
        "ModernBERT": {},
        "BERT, sequences of 128": _bert(128),
        "BERT, sequences of 64": _bert(64),
    },
    "vocabularies": {
        "WordPiece": {},
        "byte-level BPE": {"vocab": {"algorithm": "byte_bpe"}},
        "Unigram": {"vocab": {"source": "file", "base": _UNIGRAM}},
    },
}


def _write_unigram(project: Project) -> None:
    """Trains a Unigram tokenizer of the demo's size on the sample."""
    sample = project.folder / "data/sample/train.txt"
    size = project.params()["vocab"]["size"]
    files = train_unigram(sample, size, uncased=True)
    folder = project.path(_UNIGRAM).parent
    folder.mkdir(exist_ok=True)
    tokenizer = LibraryTokenizer(files, vocabulary_of(sample, files.content))
    tokenizer.write(folder, max_length=512, segments=False)


def prepare(options: argparse.Namespace) -> dict[str, Project]:
    """A project per variant, with the same text; those of earlier calls are kept."""
    demo = yaml.safe_load((ROOT / "recipes/demo.yaml").read_text(encoding="utf-8"))
    projects: dict[str, Project] = {}
    for name, changes in SETS[options.set].items():
        folder = options.work / name.replace(",", "").replace(" ", "-")
        marker = folder / _PREPARED
        settings = json.dumps([demo, changes], indent=2)
        if is_prepared(marker, settings):
            project = Project(folder)
        else:
            if projects:
                first = next(iter(projects.values())).folder
                shutil.rmtree(folder, ignore_errors=True)
                ignored = shutil.ignore_patterns(_PREPARED, CALIBRATION, "models")
                shutil.copytree(first, folder, ignore=ignored)
                project = Project(folder)
            else:
                project = Project(folder, demo)
                project.stages("demo", "preprocess", "sample5M", "vocab", "split")
            project.set(changes)
            if "vocab" in changes:
                if "base" in changes["vocab"]:
                    _write_unigram(project)
                project.stage("vocab")
            project.records()
            write_text(marker, settings)
        project.environment |= ONE_THREAD
        projects[name] = project
    return projects


def _run(job: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a run, which has a copy of the project to itself."""
    prepared: Project = job["project"]
    folder = prepared.folder.with_name(f"{prepared.folder.name}-seed-{job['seed']}")
    result = folder / "finished.json"
    settings = json.dumps([job["steps"], (prepared.folder / _PREPARED).read_text("utf-8")])
    if not is_prepared(folder / "started", settings):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(prepared.folder, folder)
        write_text(folder / "started", settings)
    if not result.exists():
        project = Project(folder)
        project.environment = prepared.environment
        demo = prepared.params()["pretrain"]
        project.set(
            {
                "pretrain": {
                    "seed": job["seed"],
                    "steps": job["steps"],
                    "warmup_steps": round(demo["warmup_steps"] * job["steps"] / demo["steps"]),
                }
            }
        )
        project.pretrain("--from-start")
        project.stage("evaluate")
        shutil.copyfile(folder / "results/evaluate/metrics.json", result)
        cli.progress(f"{job['name']}, seed {job['seed']}: finished")
    return read_json(result)


def main() -> None:
    parser = cli.make_parser("training.variants", __doc__)
    cli.add(parser, "--set", "architectures", "what is varied", SETS)
    cli.add(parser, "--steps", 3400, "steps of the demo")
    cli.add(parser, "--seeds", [1, 2, 3], "of the runs")
    cli.add(parser, "--jobs", 2, "runs at a time")
    parser.add_argument("--calibrate", action="store_true", help="only find the numbers of steps")
    options = cli.parse(parser)
    options.work /= options.set
    projects = prepare(options)
    variants = [{"name": name, "project": project} for name, project in projects.items()]
    seconds = run_parallel(lambda job: job["project"].calibrate(_CALIBRATION), variants, 1)
    for variant, each in zip(variants, seconds, strict=True):
        variant["steps"] = round(options.steps * seconds[0] / each)
    cli.progress(f"steps: { {variant['name']: variant['steps'] for variant in variants} }")
    if options.calibrate:
        return
    jobs = [variant | {"seed": seed} for seed in options.seeds for variant in variants]
    found = run_parallel(_run, jobs, options.jobs)
    rows: list[Row] = []
    for number, (variant, each) in enumerate(zip(variants, seconds, strict=True)):
        row: Row = {"name": variant["name"], "steps": variant["steps"]}
        row["cpu_minutes"] = f"{variant['steps'] * each / 60:.1f}"
        runs = found[number :: len(variants)]
        for measure in _MEASURES:
            row |= mean_and_deviation([metrics[measure] for metrics in runs], measure)
        rows.append(row)
    cli.finish(options, {"step_seconds": seconds}, rows=rows)


if __name__ == "__main__":
    cli.run_main(main)
