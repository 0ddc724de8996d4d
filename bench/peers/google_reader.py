"""Reads TFRecords with the input function of google-research/bert's run_pretraining.py, unmodified.

python bench/peers/google_reader.py CHECKOUT OUT.npz LENGTH PREDICTIONS COUNT FILE...

Writes the first COUNT examples as that function yields them for evaluation, in batches of 1.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tensorflow
from google_bert import install  # type: ignore[import-not-found]


def main() -> None:
    checkout, out, length, predictions, count, *files = sys.argv[1:]
    install(Path(checkout))
    tf = tensorflow.compat.v1
    # The functions of tf.contrib have moved.
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
        batches = [session.run(following) for _ in range(int(count))]
    np.savez(out, **{name: np.concatenate([each[name] for each in batches]) for name in batches[0]})


if __name__ == "__main__":
    main()
