"""Event files: the curves of a run for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path

from lib.run import tf


class EventFiles:
    """Writes scalars into a file of its own in a folder; TensorBoard joins those of a folder.

    A run that is gone on with adds a file. Steps that it makes a second time stand in both, with
    equal values, as training repeats them to the bit. The files hold times and the machine's name,
    so no two runs write the same bytes.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`: made if it is not there; files in it are left alone."""
        self._writer = tf.summary.create_file_writer(str(folder))
        # tf.summary.scalar would do the same, but needs the package of TensorBoard to write.
        self._kind = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point, at an optimizer step, to the curve of each name."""
        with self._writer.as_default():
            for name, value in values.items():
                point = tf.constant(value, tf.float32)
                tf.summary.write(name, point, step=step, metadata=self._kind)

    def flush(self) -> None:
        """Brings to the file what was logged; at the latest two minutes after it was logged."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and ends the file; more cannot be logged."""
        self._writer.close()
