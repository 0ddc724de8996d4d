"""Raw files as lines of text."""

from collections.abc import Iterator
from pathlib import Path

from lib.run.errors import UserError

# Files that tools keep in a data folder: never text of the user's.
_IGNORED_SUFFIXES = (".dvc",)


def raw_files(folder: Path) -> list[Path]:
    """Text files below `folder`, sorted by relative path whatever order the disk lists them in.

    Raises:
        UserError: the folder is missing or holds no text, or a file's format is not read here.
    """
    if not folder.is_dir():
        raise UserError(
            f"preprocess.input: no folder {folder}; put your text there, or name its "
            "folder in params.yaml"
        )
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.suffix not in _IGNORED_SUFFIXES
    ]
    if not files:
        raise UserError(f"preprocess.input: no files in {folder}; put .txt files there")
    for path in files:
        if path.suffix != ".txt":
            raise UserError(f"{path}: not a format that is read here (.txt); convert or remove it")
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, without their ends (LF, CR LF or CR) and without a leading BOM.

    Raises:
        UserError: a line is not UTF-8; file and line are named.
    """
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline=None) as stream:
            for number, line in enumerate(stream, 1):  # noqa: B007 (told in the error)
                yield line.rstrip("\n")
    except UnicodeDecodeError as failure:
        raise UserError(
            f"{path} at or after line {number + 1}: not UTF-8 ({failure.reason}); {_mend(path)}"
        ) from None


def _mend(path: Path) -> str:
    """What to do with a file that is not UTF-8, by its first bytes."""
    with path.open("rb") as stream:
        start = stream.read(4096)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it looks like UTF-16: iconv -f UTF-16 -t UTF-8"
    if b"\0" in start:
        return "it looks like no text at all: remove it"
    return "convert it from its own encoding, for instance with iconv -f LATIN1 -t UTF-8"
