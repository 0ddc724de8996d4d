"""The report's sections of examples and training: records, curves and outcome of each phase."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.evaluation.metrics import METRICS
from lib.params import SHARDS
from lib.records.statistics import constant_pairs
from lib.report.charts.stage_charts import cost_charts, records_charts, training_charts
from lib.report.results import Results
from lib.report.wording import flat, words


def examples(results: Results) -> dict[str, Any]:
    """The records that each phase trains on."""
    phases = {}
    for phase in results.params.phases:
        records = results.metrics(f"records/{phase}")
        folder = results.folder / f"records/{phase}"
        splits = {name: each for name, each in (records or {}).items() if isinstance(each, dict)}
        phases[phase] = {
            "metrics": records,
            "splits": splits,
            "others": {key: value for key, value in (records or {}).items() if key not in splits},
            "warning": _constant_pairs(results, phase, records) if records else None,
            "charts": {} if results.why_outdated(folder) else records_charts(folder),
        }
    return {"phases": phases}


def _constant_pairs(results: Results, phase: str, records: Mapping[str, Any]) -> str | None:
    """What is wrong with the sentence pairs, if they nearly all have the same label."""
    trained = results.metrics(f"pretrain/{phase}") or {}
    from_text = results.params.records.source == SHARDS
    has_pairs = results.params.records.next_sentence if from_text else "dev_nsp_loss" in trained
    random_next = records.get("train", {}).get("random_next_fraction", 0.5)
    return constant_pairs(random_next) if has_pairs else None


def training(results: Results) -> dict[str, Any]:
    """Curves of each phase, metrics on training and dev text, and the other values."""
    phases = {}
    for phase in results.params.phases:
        metrics = results.metrics(f"pretrain/{phase}")
        charts = {}
        if not results.why_outdated(results.folder / f"pretrain/{phase}"):
            charts = training_charts(curves_folder(results.folder, phase))
            charts |= cost_charts(results.folder / f"cost/training-{phase}.csv")
        both = [key.removeprefix("dev_") for key in metrics or () if key.startswith("dev_")]
        texts = {
            f"{label} text": {_label(key): (metrics or {}).get(f"{text}_{key}") for key in both}
            for text, label in (("train", "training"), ("dev", "dev"))
        }
        shown = {f"{text}_{name}" for text in ("train", "dev") for name in both}
        others = {key: value for key, value in (metrics or {}).items() if key not in shown}
        phases[phase] = {
            "metrics": metrics,
            "texts": texts if both else {},
            "others": list(flat(others)),
            "charts": charts,
        }
    return {"phases": phases}


def _label(metric: str) -> str:
    return METRICS[metric].label if metric in METRICS else words(metric)


def curves_folder(results: Path, phase: str) -> Path:
    """The folder of a phase's curves; while training runs, that of its log so far."""
    folder = results / f"pretrain/{phase}/curves"
    return folder if folder.exists() else results / f"pretrain/{phase}/live/plots/metrics"
