"""Metrics logger: DVCLive always, TensorBoard event files on request."""

from collections.abc import Mapping
from pathlib import Path

from dvclive import Live

from lib.run.atomic import remove
from lib.train.logging.event_files import EventFiles


class MetricsLogger:
    """Log of metrics by step."""

    def __init__(self, logs: Path, resume: bool, event_files: Path | None) -> None:
        """
        Args:
            logs: DVCLive's folder; with `resume`, its content is continued.
            event_files: TensorBoard's folder, if there should be one; emptied unless `resume`.
        """
        self._live = Live(
            str(logs),
            resume=resume,
            dvcyaml=None,
            save_dvc_exp=False,
            report=None,
            monitor_system=False,
        )
        if event_files and not resume:
            remove(event_files)
        self._events = EventFiles(event_files) if event_files else None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values of a step."""
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()
        if self._events:
            self._events.log(step, values)

    def close(self) -> None:
        """Closes the files; nothing can be logged afterwards."""
        self._live.end()
        if self._events:
            self._events.close()
