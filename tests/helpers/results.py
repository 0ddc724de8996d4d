"""Results of a run on text that is hard to show, for the tests of the report."""

import json
from pathlib import Path

from lib.text.cleaning.inspection import Inspection
from lib.text.reading.rejections import Fault
from lib.vocab.report import measure_fit, write_report
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from lib.vocab.words import WordCounts

LANGUAGES = {
    "English": "The pilot & her sister <never> met.",
    "Turkish": "İstanbul’da ışıklar söndü, çığ düştü.",
    "Arabic": "ذهب الولد إلى المدرسة صباحًا.",
    "Hindi": "लड़का स्कूल जाता है।",
    "Russian": "Мальчик идёт в школу.",
    "Chinese": "男孩早上去上学。",
    "Japanese": "少年は朝、学校に行きます。",
}
DIFFICULT = [
    "<script>alert('1')</script>",
    "</style></body><!-- &amp; &#60; ]]>",
    "👩‍👩‍👧 🇹🇷 ☎️",
    "עברית then English, then עברית",
    '" onload="x',
    "a\u2028b\x85c",
]
TEXTS = [*LANGUAGES.values(), *DIFFICULT]
SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" width="200pt" height="100pt" viewBox="0 0 200 100">
<title>Loss by <frequency></title>
<style>p, table {display: none}</style><script>alert(1)</script>
<rect id="numbers" width="200" height="100" fill="#fff"/><circle cx="50" cy="50" r="30"/></svg>
""".replace("<frequency>", "&lt;frequency&gt;")


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(text.encode())


def write_everything(folder: Path) -> None:
    """Results of a run on text that is hard to show."""
    write(
        folder / "preprocess/metrics.json",
        {
            "files": 3,
            "input_md5": "0123.dir",
            "characters": 100000,
            "characters_in": 123456,
            "documents": 940,
            "documents_in": 1000,
            "documents_duplicate": 57,
            "documents_empty": 3,
            "sentences": 4000,
            "formats": {"text": 2, "csv (gzip)": 1},
            "edits": {"urls": 12},
            "rejected": {"malformed_json": 5},
        },
    )
    inspection = Inspection()
    inspection.samples = [
        (f"{number:02}", f"data/raw/{number}.txt", f"before {text}", f"after {text}\n{text}")
        for number, text in enumerate(TEXTS)
    ]
    fault = Fault("data/raw/<b>.txt", "line 7", "malformed_json")
    write(folder / "preprocess/samples.txt", inspection.page([(fault, text) for text in TEXTS]))
    part = {"documents": 300, "sentences": 1000, "bytes": 40000, "shards": 1}
    overlap = {"test": {"documents": 300, "near_duplicates": 4, "fraction": 0.0133}}
    write(
        folder / "split/metrics.json",
        {"train": part, "dev": part, "test": part, "overlap": overlap},
    )
    write(folder / "sample5M/metrics.json", {"train_sampled": 3500})
    write_vocabulary(folder / "vocab")
    write(folder / "records/main/metrics.json", {"train": {"examples": 9, "fill": 0.9873}})
    write(folder / "records/main/lengths.csv", "tokens,examples\n1,0\n2,5\n3,4\n")
    live = folder / "pretrain/main/curves"
    for text, loss in (("train", 5.0), ("dev", 6.0)):
        write(live / text / "mlm_loss.tsv", f"step\tmlm_loss\n10\t{loss}\n20\tnan\n30\t2.5\n")
    write(live / "learning_rate.tsv", "step\tlearning_rate\n10\t0.001\n20\t0.0005\n")
    write(
        folder / "pretrain/main/metrics.json",
        {
            "parameters": 1234567,
            "steps": 30,
            "epochs": 0.5,
            "train_mlm_loss": 2.5,
            "dev_mlm_loss": 2.75,
        },
    )
    write(
        folder / "evaluate/metrics.json",
        {
            "phase": "main",
            "mlm_loss": 2.0,
            "mlm_loss_unigram": 3.5,
            "mlm_loss_initial": 3.25,
            "mlm_accuracy": 0.5,
            "mlm_accuracy_top_token": 0.0625,
            "bits_per_character": 1.875,
            "intervals": {"mlm_loss": [1.9, 2.1], "new_measure": [0.25, 0.75]},
            "new_measure": 0.5,
            "nested": {"deep": {"count": 12345}},
        },
    )
    write(
        folder / "evaluate/fill_mask.json",
        [
            {
                "sentence": f"{text} ____ {text}",
                "word": text,
                "guesses": [text, "<b>"],
                "probabilities": [0.75, 0.25],
                "unigram_guess": "<i>",
            }
            for text in TEXTS
        ],
    )
    write(folder / "evaluate/by_frequency.csv", "bin,loss\n1-9,2\n")
    write(folder / "evaluate/by_frequency.svg", SVG)
    write(folder / "evaluate/models.csv", "model,mlm_loss\nstep-<20>,2.25\n")
    write(folder / "probe/topic/metrics.json", {"f1": {"mean": 0.8125}})
    cost = {"wall_seconds": 65.0, "cpu_seconds": 100.0, "peak_memory_mib": 512.0}
    for stage in ("evaluate-main", "preprocess", "pretrain-main"):
        write(folder / f"cost/{stage}.json", cost)
    write(
        folder / "cost/training-main.csv",
        "step,steps_per_second,sequences_per_second,tokens_per_second,fraction_of_peak,memory_mib,"
        "device_memory_mib\n10,2,64,1000,0.25,900,0\n20,3,96,3000,0.5,901,0\n30,2,80,2000,0.5,901,0\n",
    )


def write_vocabulary(folder: Path) -> None:
    """Results of a vocabulary of single characters; some words contain Markdown markup."""
    words = {"`|`": 5, "a|b": 4, "``": 3, "مدرسة": 2, "学校": 2, "ışık": 2, "स्कूल": 2, "🇹🇷": 2}
    letters = sorted({letter for word in words for letter in word})
    vocabulary = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = WordPieceTokenizer(vocabulary, False, False)
    counts = WordCounts()
    counts.words.update(words)
    fitted = measure_fit(tokenizer, counts)
    write(folder / "metrics.json", {"size": len(vocabulary), "train": fitted.metrics})
    write_report(folder / "report.md", tokenizer, {"size": len(vocabulary)}, {"train": fitted})
