"""What several workers owe each other: the same start and end, and a word when one is lost."""

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from lib.run import tf
from lib.run.errors import UserError


class Workers:
    """The processes that train together under tf.distribute; mostly there is one.

    Attributes:
        count: number of processes.
        number: of this one; 0 is the chief, which alone reads and writes checkpoints.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self._addresses: list[str] = []
        self._first = {"chief": 0, "worker": 0}
        self.number = 0
        resolver = strategy.cluster_resolver
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and resolver:
            jobs = resolver.cluster_spec().as_dict()
            self._first["worker"] = len(jobs.get("chief", ()))
            self._addresses = [*jobs.get("chief", ()), *jobs.get("worker", ())]
            self.number = self._first[resolver.task_type] + resolver.task_id
        self.count = max(1, len(self._addresses))

    @property
    def processors(self) -> int:
        """Accelerators that they have together, or processes where there are none."""
        accelerated = any(
            device.device_type != "CPU" for device in tf.config.list_logical_devices()
        )
        return self._strategy.num_replicas_in_sync if accelerated else self.count

    def agree_on(self, identity: str) -> None:
        """Makes sure that all workers are about to do the same.

        Args:
            identity: hexadecimal digits of what is trained.

        Raises:
            UserError: a worker trains something else; each of them raises it.
        """
        if self.count == 1:
            return
        own = np.frombuffer(bytes.fromhex(identity), np.uint8)
        identities = np.zeros([self.count, len(own)], np.float32)
        identities[self.number] = own
        identities = self._sum(identities)
        others = np.flatnonzero((identities != identities[0]).any(axis=1))
        if len(others):
            raise UserError(
                f"{self._name(int(others[0]))} would train something else than worker 0; give all "
                "workers the same records, vocabulary, start and params.yaml"
            )

    def from_chief(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays of worker 0, in each worker and to the bit.

        Args:
            arrays: floating-point arrays; other workers' say the names, shapes and types only.
        """
        if self.count == 1:
            return dict(arrays)
        # The sum of x and any number of -0.0 is x itself, also where x is 0.0 or -0.0.
        return {
            name: self._sum(np.full_like(array, -0.0) if self.number else np.asarray(array))
            for name, array in sorted(arrays.items())
        }

    def wait(self) -> None:
        """Returns when all workers have come here."""
        if self.count > 1:
            self._sum(np.zeros([1], np.float32))

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Ends training with one line when another worker is gone.

        TensorFlow's workers send each other heartbeats; it notices within some ten seconds.

        Raises:
            UserError: it is named if TensorFlow names it.
        """
        try:
            yield
        except tf.errors.OpError as failure:
            if self.count == 1:
                raise
            # They hold a thread pool, which complains if Python's end finds it open.
            traceback.clear_frames(failure.__traceback__)
            tasks = re.findall(r"/job:(chief|worker)/(?:replica:\d+/)?task:(\d+)", str(failure))
            numbers = (self._first[job] + int(task) for job, task in tasks)
            lost = next((each for each in numbers if each != self.number), None)
            raise UserError(
                f"{'another worker' if lost is None else self._name(lost)} does not answer worker "
                f"{self.number} any more; see what it said last, then start all workers again: "
                "they go on from the last checkpoint"
            ) from failure

    def _name(self, number: int) -> str:
        return f"worker {number} ({self._addresses[number]})"

    def _sum(self, array: np.ndarray) -> np.ndarray:
        nothing = np.full_like(array, -0.0)
        replicas = self._strategy.num_replicas_in_sync // self.count

        def of_replica(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group % replicas == 0
            return tf.convert_to_tensor(array if first else nothing)

        values = self._strategy.experimental_distribute_values_from_function(of_replica)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()
