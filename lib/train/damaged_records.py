"""Names the file of a damaged record, instead of TensorFlow's traceback."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.model.encoder_config import EncoderConfig
from lib.records.damage import find_damage
from lib.records.manifest import Manifest
from lib.run import tf


@contextmanager
def naming_damaged_records(
    records: Path, manifest: Manifest, config: EncoderConfig
) -> Iterator[None]:
    """Put around everything that reads records: training, evaluation, the check of the export.

    An error that has another cause is raised as it is, after the records have been read once.

    Raises:
        UserError: a file of records is missing or damaged, or has other content.
    """
    try:
        yield
    except tf.errors.OpError as failure:
        kinds = (
            tf.errors.DataLossError,  # a checksum, a file that is cut short, or its compression
            tf.errors.InvalidArgumentError,  # other features, or an id that is not in a table
            tf.errors.NotFoundError,
            tf.errors.PermissionDeniedError,
            tf.errors.FailedPreconditionError,  # fewer records than expected; or a folder
            tf.errors.OutOfRangeError,
        )
        if not isinstance(failure, kinds):
            raise
        error = find_damage(records, manifest, config.vocab_size, config.segments)
        if error is None:
            raise
        # The frames refer to a thread pool, which complains if it is still open at exit.
        traceback.clear_frames(failure.__traceback__)
        raise error from None
