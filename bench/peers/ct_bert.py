"""Runs prepare_pretrain_data.py of CT-BERT, unmodified, on today's Python and spaCy.

python bench/peers/ct_bert.py CHECKOUT --input_data=... (the script's own flags)

It writes below ../data, seen from the working directory. What has gone since it was written is
put back before it starts, each time by what costs no more than the original did:
- HTMLParser.unescape (gone with Python 3.9) was html.unescape;
- Span.string (gone with spaCy 3) was Span.text_with_ws;
- TensorFlow, of which it uses only the opening of a file, is an empty module with that.
With emoji below 2 it runs markedly faster than with today's, so that is the one to install.
"""

import html
import runpy
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace


class _Sentences:
    """What the script asks of a spaCy document: its length and its sentences' strings."""

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
