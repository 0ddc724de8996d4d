"""Reads TFRecords by the input function of google-research/bert's run_pretraining.py, unmodified.

python bench/peers/google_reader.py CHECKOUT OUT.npz LENGTH PREDICTIONS ROWS FILE...

Writes the first so many rows, as that function gives them for evaluation, in batches of 1.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tensorflow
from google_bert import install  # type: ignore[import-not-found]


def main() -> None:
    checkout, out, length, predictions, rows, *files = sys.argv[1:]
    install(Path(checkout))
    tf = tensorflow.compat.v1
    # Where tf.contrib's functions went.
    tf.contrib = SimpleNamespace(
        data=SimpleNamespace(
            map_and_batch=tf.data.experimental.map_and_batch,
            parallel_interleave=tf.data.experimental.parallel_interleave,
        )
    )
    del sys.argv[1:]
    import run_pretraining  # type: ignore[import-not-found]

    read = run_pretraining.input_fn_builder(files, int(length), int(predictions), False)
    with tf.Graph().as_default(), tf.Session() as session:
        following = tf.data.make_one_shot_iterator(read({"batch_size": 1})).get_next()
        batches = [session.run(following) for _ in range(int(rows))]
    np.savez(out, **{name: np.concatenate([each[name] for each in batches]) for name in batches[0]})


if __name__ == "__main__":
    main()
