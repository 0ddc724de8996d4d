"""Coordination of training workers: same run, broadcast, barrier, report of a lost worker."""

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from lib.run import tf
from lib.run.errors import UserError


class Workers:
    """The processes that train together under tf.distribute; usually there is one.

    Attributes:
        count: number of processes.
        index: of this process; 0 is the chief, which alone reads and writes checkpoints.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self._addresses: list[str] = []
        self._first = {"chief": 0, "worker": 0}
        self.index = 0
        resolver = strategy.cluster_resolver
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and resolver:
            jobs = resolver.cluster_spec().as_dict()
            self._first["worker"] = len(jobs.get("chief", ()))
            self._addresses = [*jobs.get("chief", ()), *jobs.get("worker", ())]
            self.index = self._first[resolver.task_type] + resolver.task_id
        self.count = max(1, len(self._addresses))

    @property
    def devices(self) -> int:
        """Number of accelerators of all workers; without any, number of processes."""
        accelerated = any(
            device.device_type != "CPU" for device in tf.config.list_logical_devices()
        )
        return self._strategy.num_replicas_in_sync if accelerated else self.count

    def check_same_run(self, identity: str) -> None:
        """Refuses, on all workers, that one trains something else than the others.

        Args:
            identity: fingerprint of everything that is trained, hexadecimal.
        """
        if self.count == 1:
            return
        own = np.frombuffer(bytes.fromhex(identity), np.uint8)
        identities = np.zeros([self.count, len(own)], np.float32)
        identities[self.index] = own
        identities = self._sum(identities)
        others = np.flatnonzero((identities != identities[0]).any(axis=1))
        if len(others):
            raise UserError(
                f"{self._name(int(others[0]))} is not training the same run as worker 0; give all "
                "workers the same records, vocabulary, initial model and params.yaml"
            )

    def broadcast(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the arrays of the chief on every worker, bit for bit.

        Args:
            arrays: floating-point arrays; of other workers only names, shapes and types are used.
        """
        if self.count == 1:
            return dict(arrays)
        # The sum of x and any number of -0.0 is x itself, also where x is 0.0 or -0.0.
        return {
            name: self._sum(np.full_like(array, -0.0) if self.index else np.asarray(array))
            for name, array in sorted(arrays.items())
        }

    def any(self, flag: bool) -> bool:
        """Whether the flag of any worker is set; all workers call it and get the same answer."""
        if self.count == 1:
            return flag
        return bool(self._sum(np.array([flag], np.float32))[0])

    def barrier(self) -> None:
        """Waits until all workers have called it."""
        if self.count > 1:
            self._sum(np.zeros([1], np.float32))

    @contextmanager
    def reporting_lost_workers(self) -> Iterator[None]:
        """Turns TensorFlow's error about a lost worker into one line, a UserError.

        TensorFlow's workers send each other heartbeats, so that a loss is noticed within about ten
        seconds.
        """
        try:
            yield
        except tf.errors.OpError as failure:
            if self.count == 1:
                raise
            # The frames refer to a thread pool, which complains if it is still open at exit.
            traceback.clear_frames(failure.__traceback__)
            tasks = re.findall(r"/job:(chief|worker)/(?:replica:\d+/)?task:(\d+)", str(failure))
            indices = (self._first[job] + int(task) for job, task in tasks)
            lost = next((each for each in indices if each != self.index), None)
            raise UserError(
                f"{'another worker' if lost is None else self._name(lost)} no longer responds to "
                f"worker {self.index}; see its last output, then start all workers again: they "
                "resume from the last checkpoint"
            ) from failure

    def _name(self, index: int) -> str:
        return f"worker {index} ({self._addresses[index]})"

    def _sum(self, array: np.ndarray) -> np.ndarray:
        """Sum of the arrays of all workers; only the first replica of each takes part."""
        nothing = np.full_like(array, -0.0)
        replicas = self._strategy.num_replicas_in_sync // self.count

        def of_replica(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group % replicas == 0
            return tf.convert_to_tensor(array if first else nothing)

        values = self._strategy.experimental_distribute_values_from_function(of_replica)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()
