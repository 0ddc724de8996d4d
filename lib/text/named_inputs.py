"""Named inputs: folders of raw text that are each read and cleaned in their own way.

    data/raw/wiki/...        preprocess.inputs: {wiki: {}, tweets: {document: line}}
    data/raw/tweets/...

Without names the whole folder of raw text is a single input, whose name is "". What is only
evaluated is the input `extra`, in a folder of its own.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib.run.errors import UserError
from lib.text.cleaning.chunks import ChunkOptions
from lib.text.cleaning.inspection import Inspection
from lib.text.layout import EXTRA, CorpusPlace
from lib.text.names import some_of
from lib.text.reading.raw_files import examine_all
from lib.text.reading.reader import RawFile
from lib.text.reading.rejected_files import RejectedFiles
from lib.text.splits import GivenSplits, given_splits


@dataclass
class NamedInput:
    """A folder of raw text and how it is read.

    Attributes:
        name: "" if it is the only one.
        format, encoding, splits: keys of `preprocess`.
        options: how its text is read and cleaned.
        held_out: all of it is test text.
        files: what is read, with the names that it has in messages: below the folder of all inputs.
        given: the splits that the names state.
        corpus_folders: the folder of the corpus for each file, by its name.
        inspection: the facts of its cleaned chunks.
    """

    name: str
    folder: Path
    format: str
    encoding: str
    splits: Mapping[str, str]
    options: ChunkOptions
    held_out: bool = False
    files: list[RawFile] = field(default_factory=list)
    given: GivenSplits | None = None
    corpus_folders: dict[str, str] = field(default_factory=dict)
    inspection: Inspection = field(default_factory=Inspection)

    @property
    def prefix(self) -> str:
        """What stands before a note about it."""
        return f"{self.name}: " if self.name else ""

    @property
    def _start(self) -> str:
        """What the names of its files begin with."""
        if self.held_out:
            return f"{self.folder}/"
        return f"{self.name}/" if self.name else ""

    def examine(self, rejected: RejectedFiles) -> list[str]:
        """Finds the files to read; the names of those that are passed over.

        Args:
            rejected: gets the files that cannot be read.
        """
        self.files, passed_over = examine_all(
            self.folder,
            self.format,
            self.options.reading.document,
            self.encoding,
            self.options.skip_bad_input,
            rejected,
            self._start,
        )
        return passed_over

    def find_splits(self) -> GivenSplits:
        """Finds the given splits, and keeps them."""
        names = [file.name.removeprefix(self._start) for file in self.files]
        key = f"preprocess.{f'inputs.{self.name}.' if self.name else ''}splits"
        stated = {"*": "test"} if self.held_out else self.splits
        self.given = given_splits(names, self.folder, stated, key)
        self.corpus_folders = {
            file.name: CorpusPlace(self.name, split).folder()
            for file, split in zip(self.files, self.given.splits, strict=True)
        }
        return self.given


def refuse_other_folders(raw: Path, names: Collection[str]) -> None:
    """Refuses a folder of raw text that does not have the named folders, or has other files.

    Raises:
        UserError: a folder is missing, or there is text outside of the named ones.
    """
    missing = [name for name in names if not (raw / name).is_dir()]
    if missing:
        raise UserError(
            f"preprocess.inputs: {raw} has no folder {some_of(missing)}; put the text there, or "
            "remove the name"
        )
    others = sorted(
        path.name
        for path in raw.iterdir()
        if path.name not in names and not path.name.startswith(".") and path.suffix != ".dvc"
    )
    if EXTRA in others:
        raise UserError(
            f"{raw / EXTRA}: {EXTRA} is the name of the text in evaluate.extra; rename the folder"
        )
    if others:
        is_folder = (raw / others[0]).is_dir()
        fix = (
            f"add `{others[0]}: {{}}` to preprocess.inputs"
            if is_folder
            else "move each file into the folder of an input"
        )
        raise UserError(f"{raw}: {some_of(others)}: not of a named input; {fix}")
