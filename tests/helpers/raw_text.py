"""Reading single raw files in tests."""

from collections import Counter
from pathlib import Path

from lib.text.reading.dialects import Dialect
from lib.text.reading.fields import TextFields
from lib.text.reading.formats import between_cuts, cut_rule, read_documents
from lib.text.reading.raw_files import examine
from lib.text.reading.reader import Chunk, ReadOptions
from lib.text.reading.rejections import BadInputError, Fault, Rejections


def read(
    path: Path,
    document: str = "blank_line",
    skip: bool = False,
    field: str | list[str] = "text",
    dialect: dict[str, object] | None = None,
    encoding: str = "utf-8",
    **offsets: int,
) -> tuple[list[list[str]], Rejections, Counter[str]]:
    """All documents of a file (or of the chunk from `start` to `stop`), their lines stripped."""
    rejections = Rejections(str(path), skip)
    counts: Counter[str] = Counter()
    file = examine(path, "auto", document, rejections, encoding)
    if rejections.examples and not skip:
        [example] = rejections.examples
        raise BadInputError(Fault(str(path), example["position"], example["reason"]))
    found = []
    if file:
        chunk = Chunk(file)
        if offsets:
            chunk = between_cuts(file, **offsets, is_cut=cut_rule(file, document))
        fields = TextFields((field,) if isinstance(field, str) else tuple(field))
        options = ReadOptions(document, fields, Dialect(**(dialect or {})))
        for batch in read_documents(chunk, options, rejections, counts):
            found += [[line.strip() for line in lines] for lines in batch]
    return found, rejections, counts
