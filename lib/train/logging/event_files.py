"""Event files of a run for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path

from lib.run import tf


class EventFiles:
    """Writer of scalars into a new file of a folder; TensorBoard merges the files of a folder.

    A resumed run adds a file. Steps that it repeats are in both files with equal values, as
    training is bit-for-bit reproducible. The files contain times and the name of the machine, so
    that no two runs write the same bytes.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`: created if it does not exist; files in it are kept."""
        self._writer = tf.summary.create_file_writer(str(folder))
        # tf.summary.scalar does the same, but needs the tensorboard package.
        self._kind = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point at an optimizer step to the curve of each name, and flushes the file."""
        with self._writer.as_default():
            for name, value in values.items():
                point = tf.constant(value, tf.float32)
                tf.summary.write(name, point, step=step, metadata=self._kind)
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file; nothing can be logged afterwards."""
        self._writer.close()
