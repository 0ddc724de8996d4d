"""preprocess: raw text -> data/corpus, one sentence a line, a blank line after each document."""

from collections import Counter
from pathlib import Path, PurePosixPath

from lib.params import load_params
from lib.run.atomic import new_directory
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.pool import shard_map, worker_count
from lib.run.stage import run_stage, scratch
from lib.text.corpus import CorpusWriter
from lib.text.documents import read_corpus
from lib.text.duplicates import first_occurrences
from lib.text.maps import MapTask, make_map, map_counts, map_documents
from lib.text.readers import raw_files
from lib.text.splits import corpus_files, given_split


def main(raw: Path, corpus: Path) -> None:
    """Cleans raw text, splits it into sentences and drops duplicate documents.

    RAW is the folder of raw text, CORPUS the folder to write.
    """
    params = load_params()
    files = raw_files(raw)
    maps = scratch() / "maps"
    maps.mkdir(parents=True, exist_ok=True)
    tasks = [MapTask(path, maps, params.preprocess) for path in files]
    keys = shard_map(make_map, tasks, worker_count(params.cluster.workers), "clean")

    counts: Counter[str] = Counter(files=len(files))
    for key in keys:
        counts.update(map_counts(maps, key))
    tables = [map_documents(maps, key) for key in keys]
    kept = first_occurrences(tables)
    counts["documents"] = sum(int(mask.sum()) for mask in kept)
    counts["documents_duplicate"] = counts["documents_cleaned"] - counts["documents"]
    _check_documents(counts, raw, params.preprocess.document)

    with new_directory(corpus) as temporary:
        with CorpusWriter(temporary) as writer:
            for path, key, table, mask in zip(files, keys, tables, kept, strict=True):
                folder = given_split(PurePosixPath(path.relative_to(raw).as_posix())) or ""
                writer.write(maps / f"{key}.txt", table["size"], mask, folder)
        for path in corpus_files(temporary):
            for document in read_corpus(path):
                counts["sentences"] += document.count(b"\n")
                counts["characters"] += len(document.decode())
    write_metrics(Path("results/preprocess/metrics.json"), dict(sorted(counts.items())))
    print(
        f"preprocess: {counts['documents']:,} documents, {counts['sentences']:,} sentences from "
        f"{counts['files']:,} files; {counts['documents_duplicate']:,} duplicates dropped"
    )


def _check_documents(counts: Counter[str], raw: Path, document: str) -> None:
    """Refuses a corpus that cannot be trained on: without text, or all one document."""
    if counts["documents"] == 0:
        raise UserError(f"{raw}: no text left after cleaning; see that its files are not empty")
    if counts["documents"] == 1:
        raise UserError(
            f"{raw}: all of it is one document under preprocess.document: {document}; put blank "
            "lines between documents, or set preprocess.document to line, file or `20 sentences`"
        )


if __name__ == "__main__":
    run_stage(main)
