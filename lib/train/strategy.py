"""tf.distribute strategy: one device, all devices of this machine, several machines, or a TPU."""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from typing import Literal

from lib.run import tf
from lib.run.errors import UserError

_PATIENCE_SECONDS = 10.0

Distribution = Literal["one", "mirrored", "multiworker", "tpu"]


def make_strategy(
    distribution: Distribution,
    tpu_name: str | None = None,
    tpu_zone: str | None = None,
    tpu_project: str | None = None,
) -> tf.distribute.Strategy:
    """Makes the strategy of tf.distribute; to be called before TensorFlow is used otherwise.

    Args:
        distribution: one: the first accelerator, or the CPU; mirrored: all accelerators of this
            machine, or its logical CPU devices; multiworker: the processes in TF_CONFIG; tpu: the
            TPU of that name, or the local one of a TPU VM.

    Raises:
        UserError: TF_CONFIG is missing or wrong, or the TPU cannot be reached.
    """
    if distribution == "multiworker":
        return _multiworker()
    if distribution == "tpu":
        return _tpu(tpu_name, tpu_zone, tpu_project)
    accelerators = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in accelerators or tf.config.list_logical_devices("CPU")]
    if distribution == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def _multiworker() -> tf.distribute.Strategy:
    if not os.environ.get("TF_CONFIG"):
        raise UserError(
            "pretrain.distribution: multiworker needs the environment variable TF_CONFIG "
            "(cluster and task, as JSON) in each process; set it, or use mirrored or one"
        )
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        jobs, job, index = config["cluster"], config["task"]["type"], config["task"]["index"]
        workers = len(jobs.get("chief", ())) + len(jobs.get("worker", ()))
        own = f"{job} {index} of {workers} ({jobs[job][index]})"
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as failure:
        raise UserError(
            f"TF_CONFIG: invalid ({failure!r}); it should look like "
            '{"cluster": {"worker": ["host1:port", "host2:port"]}, '
            '"task": {"type": "worker", "index": 0}}'
        ) from None
    if workers > 1:
        print(f"pretrain: {own} is waiting for the others", file=sys.stderr)
    # Python's own handler of Ctrl-C would not be called while TensorFlow waits.
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as failure:
        raise UserError(
            f"TF_CONFIG: {own} cannot connect to the others ({_first_line(failure)}); check that "
            "each of them runs once, that the addresses are right and the ports free"
        ) from None
    finally:
        signal.signal(signal.SIGINT, interrupt)
    # TensorFlow has installed a SIGTERM handler that only notifies subscribers; there are none, and
    # the signal would be lost.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return strategy


def _tpu(name: str | None, zone: str | None, project: str | None) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=name or "local", zone=zone, project=project
        )
        if address := re.fullmatch(r"(?:grpc://)?(.+):(\d+)", resolver.master()):
            # TensorFlow itself would try forever.
            socket.create_connection((address[1], int(address[2])), _PATIENCE_SECONDS).close()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as failure:
        raise UserError(
            f"pretrain.tpu.name: {name or 'local'} cannot be reached ({_first_line(failure)}); "
            "check the name, or that this is the TPU's VM"
        ) from None
    return tf.distribute.TPUStrategy(resolver)


def _first_line(failure: Exception) -> str:
    return next(iter(str(failure).splitlines()), type(failure).__name__)[:200]


def distribute(
    strategy: tf.distribute.Strategy,
    batches: Callable[[int, int], tf.data.Dataset],
) -> tf.distribute.DistributedDataset:
    """Distributed batches: each replica of this process gets an equal part.

    With 2 workers of 2 replicas each and a batch of 8 sequences, worker 1 reads sequences 4 to 7,
    and its replicas get [4, 5] and [6, 7].

    Args:
        batches: (index of the input worker, number of input workers) -> this worker's part of each
            batch, in the order of the replicas.
    """

    def worker_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = batches(context.input_pipeline_id, context.num_input_pipelines)
        replicas = context.num_replicas_in_sync // context.num_input_pipelines
        if replicas == 1:
            return dataset

        def split(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {  # [n, ...] -> [replicas, n / replicas, ...]
                name: tf.reshape(values, [replicas, -1, *values.shape[1:]])
                for name, values in batch.items()
            }

        def with_shape(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            sequences = next(iter(dataset.element_spec.values())).shape[0] // replicas
            return {
                name: tf.ensure_shape(values, [sequences, *values.shape[1:]])
                for name, values in batch.items()
            }

        return dataset.map(split).unbatch().map(with_shape)

    return strategy.distribute_datasets_from_function(worker_dataset)
