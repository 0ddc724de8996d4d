"""The charts that evaluate writes: those that dvc.yaml declares, each with all of its data."""

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
import yaml

from lib.report.charts.run_charts import draw_run
from tests.conftest import ROOT
from tests.helpers.results import write

SVG = "{http://www.w3.org/2000/svg}"
LOSSES = {"tokens": [3, 2], "mlm_loss": [2.0, 4.0], "mlm_accuracy": [0.5, 0.25]}
TABLES = {
    "by_frequency": pd.DataFrame({"times_in_training": ["1-9", "10-99"], **LOSSES}),
    "by_token_type": pd.DataFrame({"token_type": ["a whole word", "another"], **LOSSES}),
    "by_position": pd.DataFrame({"position": [2, 4], **LOSSES}),
    "by_length": pd.DataFrame({"length": [2, 4], **LOSSES}),
    "models": pd.DataFrame(
        [["main", 32, 20, 1.5], ["initial", 32, 0, 2.0], ["main", 64, 20, 1.25]],
        columns=["model", "length", "step", "bits_per_character"],
    ),
    "inputs": pd.DataFrame(
        [["wiki", "main", 1.5], ["wiki", "unigram", 2.0], ["extra", "main", 1.75]],
        columns=["input", "model", "bits_per_character"],
    ),
    "nsp_confusion": pd.DataFrame({"actual": ["follows", "random"], "predicted": ["follows"] * 2}),
}


@pytest.fixture
def drawn(tmp_path) -> Path:
    """Results with the charts of a phase."""
    curves = tmp_path / "pretrain/main/curves"
    for name in ("train/mlm_loss", "dev/mlm_loss", "train/mlm_accuracy", "learning_rate"):
        column = name.rpartition("/")[2]
        write(curves / f"{name}.tsv", f"step\t{column}\n10\t0.5\n20\tnan\n30\t0.25\n")
    write(tmp_path / "records/main/lengths.csv", "tokens,examples\n2,5\n4,9\n")
    write(tmp_path / "records/main/sequences.csv", "tokens,sequences\n2,0\n4,7\n")
    write(tmp_path / "vocab/frequencies.csv", "log10_rank,log10_fraction\n0,-1\n1,-2\n")
    write(tmp_path / "cost/training-main.csv", "step,tokens_per_second\n10,1000\n20,2000\n")
    draw_run(tmp_path, "main", TABLES)
    return tmp_path


def test_they_are_the_images_that_dvc_yaml_declares(drawn):
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    plots = declared["stages"]["evaluate"]["plots"]
    images = {plot for plot in plots if isinstance(plot, str)}
    found = {path.relative_to(drawn).as_posix() for path in drawn.rglob("*.svg")}
    assert {f"results/{path}" for path in found} - images == {"results/cost/throughput-main.svg"}
    assert images <= {f"results/{path}" for path in found}


def test_each_has_all_of_its_data(drawn):
    def image(name: str) -> ElementTree.Element:
        return ElementTree.parse(drawn / f"{name}.svg").getroot()

    def texts(name: str) -> set[str]:
        return {text.text or "" for text in image(name).iter(f"{SVG}text")}

    assert {"wiki", "extra", "main", "unigram", "1.500", "1.750"} <= texts("evaluate/inputs")
    assert {"1-", "9", "10-", "99", "3", "2"} <= texts("evaluate/by_frequency")
    assert {"a whole word", "another"} <= texts("evaluate/by_token_type")
    assert {"MLM, train", "MLM, dev"} <= texts("evaluate/training_loss")
    lengths = {"sequences of 32 tokens", "sequences of 64 tokens"}
    assert lengths <= texts("evaluate/models")
    assert {"follows", "random", "1", "0"} <= texts("evaluate/nsp_confusion")
    # A loss that is not a number is no point of a curve.
    curves = image("evaluate/training_loss").findall(f"{SVG}polyline")
    assert [len(curve.get("points", "").split()) for curve in curves] == [2, 2]
    bars = [each.get("height") for each in image("evaluate/records_lengths").iter(f"{SVG}rect")]
    assert float(bars[2] or 0) / float(bars[1] or 1) == pytest.approx(9 / 5, rel=0.01)
