"""The comparison of two models by name."""

import pandas as pd
import pytest

from lib.commands import compare as command
from lib.commands.compare import load, report
from lib.evaluation.paired import compare
from lib.report.repeats import Repeat, Repeats
from lib.run.errors import UserError


def documents(bits: float) -> str:
    """A documents.csv of `main` with two lengths, and of `initial`."""
    lines = [
        {
            "document": str(number),
            "model": model,
            "length": length,
            "mlm.bits": own + number % 7,
            "mlm.characters": 10,
            "mlm.words": 2,
        }
        for model, length, own in (("main", 64, bits), ("main", 32, bits + 5), ("initial", 64, 30))
        for number in range(40)
    ]
    return pd.DataFrame(lines).to_csv(index=False)


REVS = {"slow-seed-1": 22, "slow-seed-2": 23, "long": 18}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An evaluated workspace, and three experiments."""

    def read_rev(rev: str) -> str:
        if rev not in REVS:
            raise UserError(f"{rev}: no such experiment")
        return documents(REVS[rev])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "read_rev", read_rev)
    monkeypatch.setattr(command, "run_dvc", lambda *words: "\n".join(REVS))
    folder = tmp_path / "results/evaluate"
    folder.mkdir(parents=True)
    (folder / "documents.csv").write_text(documents(20))


def mean_bits(name: str) -> list[float]:
    return [float(run.totals["mlm.bits"].mean()) for run in load(name)]


@pytest.mark.parametrize(
    ("name", "bits", "length"),
    [
        ("main", [20], 64),
        ("main@32", [25], 32),
        ("initial", [30], 64),
        (":main@32", [25], 32),
        ("long", [18], 64),
        ("long:initial", [30], 64),
        ("long:main@32", [23], 32),
        ("slow-seed-1,slow-seed-2", [22, 23], 64),
        ("slow-*", [22, 23], 64),
    ],
)
def test_a_name_is_a_model_here_or_one_of_an_experiment(workspace, name, bits, length):
    offset = sum(number % 7 for number in range(40)) / 40
    assert mean_bits(name) == pytest.approx([each + offset for each in bits])
    assert {run.length for run in load(name)} == {length}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "A and B name a model"),
        ("fast-*", "no experiment of the last commit"),
        ("nothing", "no such experiment"),
        ("long:best", "best was not evaluated; there are main@64, main@32, initial@64"),
        ("main@128", "main@128 was not evaluated"),
        ("main,main@32", "sequences of one length"),
    ],
)
def test_other_names_are_refused_in_one_line(workspace, name, message):
    with pytest.raises(UserError, match=message) as refused:
        load(name)
    assert "\n" not in str(refused.value)


def test_without_an_evaluation_the_command_is_named(workspace, tmp_path):
    (tmp_path / "results/evaluate/documents.csv").unlink()
    with pytest.raises(UserError, match="run the pipeline first"):
        load(":main")


def test_the_report_shows_both_models_the_difference_and_what_it_leaves_out(workspace):
    def shown(a: str, b: str, repeats: Repeats | None = None) -> str:
        first, second = load(a), load(b)
        return report(first, second, compare(first, second, 1), repeats)

    text = shown("main", "initial")
    assert "A  main of the workspace (sequences of 64 tokens)" in text
    assert "40 test documents with 80 masked words" in text
    cells = [line.split("  ") for line in text.splitlines() if line.startswith("bits per")]
    found = [cell.strip() for cell in cells[0] if cell.strip()]
    assert found[3:5] == ["-1.000", "-1.000 to -1.000"] and found[-1] == "A"
    assert "make repeat SEEDS=3` measures" in text
    metrics = [{"bits_per_character": value} for value in (2.0, 2.1)]
    runs = [Repeat(n, "x", "y", each) for n, each in enumerate(metrics)]
    assert "standard deviation of 0.071" in shown("main", "long", Repeats("pretrain.seed", runs))
    assert "include the variance over documents and over training seeds" in shown("slow-*", "main")
    assert "sequences of different lengths" in shown("main", "main@32")
