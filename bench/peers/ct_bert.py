"""Runs CT-BERT's prepare_pretrain_data.py, unmodified, on current Python and spaCy.

python bench/peers/ct_bert.py CHECKOUT --input_data=... (the script's own flags)

The script writes to ../data, relative to the working directory. Functions that have been removed
since it was written are restored before it starts, none slower than the original:
- HTMLParser.unescape (removed in Python 3.9) was html.unescape;
- Span.string (removed in spaCy 3) was Span.text_with_ws;
- TensorFlow, used only to open a file, is replaced by a module with that function.
Install emoji below 2, with which it runs markedly faster than with current versions.
"""

import html
import runpy
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace


class _Sentences:
    """The parts of a spaCy document that the script uses: its length and its sentences' text."""

    def __init__(self, document) -> None:
        self._document = document

    def __len__(self) -> int:
        return len(self._document)

    @property
    def sents(self):
        return [SimpleNamespace(string=span.text_with_ws) for span in self._document.sents]


def install(checkout: Path) -> None:
    HTMLParser.unescape = staticmethod(html.unescape)
    tensorflow = ModuleType("tensorflow")
    tensorflow.io = SimpleNamespace(gfile=SimpleNamespace(GFile=open))
    sys.modules["tensorflow"] = tensorflow
    sys.path.insert(0, str(checkout))
    from utils import preprocess

    spacy = preprocess.nlp
    preprocess.nlp = lambda text: _Sentences(spacy(text))


if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    install(folder)
    runpy.run_path(str(folder / "preprocess" / "prepare_pretrain_data.py"), run_name="__main__")
