"""Reading single raw files in tests."""

from collections import Counter
from pathlib import Path

from lib.text.reading.dialects import Dialect
from lib.text.reading.fields import TextFields
from lib.text.reading.formats import cut_rule, read_documents
from lib.text.reading.lines import IsCut, first_cut
from lib.text.reading.raw_files import examine
from lib.text.reading.reader import Chunk, RawFile, ReadOptions
from lib.text.reading.rejections import Rejections


def between_cuts(file: RawFile, start: int, stop: int, is_cut: IsCut) -> Chunk:
    """The chunk whose documents begin in the byte range from `start` to `stop`."""
    with file.path.open("rb") as stream:
        return Chunk(file, first_cut(stream, start, is_cut), first_cut(stream, stop, is_cut))


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
