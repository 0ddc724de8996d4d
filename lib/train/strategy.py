"""Where the step runs: one device, all of this machine's, several machines, or a TPU."""

import os
from collections.abc import Callable
from typing import Literal

import tensorflow as tf

from lib.run.errors import UserError

Distribution = Literal["one", "mirrored", "multiworker", "tpu"]


def make_strategy(
    distribution: Distribution,
    tpu_name: str | None = None,
    tpu_zone: str | None = None,
    tpu_project: str | None = None,
) -> tf.distribute.Strategy:
    """The strategy of tf.distribute. To be called before anything else of TensorFlow.

    Args:
        distribution: one: the first accelerator, or the CPU; mirrored: all of this machine's (or
            its logical CPU devices); multiworker: the processes that TF_CONFIG names; tpu: the one
            named, or the local one of a TPU VM.

    Raises:
        UserError: TF_CONFIG is missing, or the TPU cannot be reached.
    """
    if distribution == "multiworker":
        if not os.environ.get("TF_CONFIG"):
            raise UserError(
                "pretrain.distribution: multiworker needs the environment variable TF_CONFIG "
                "(cluster and task, as JSON) in each process; set it, or use mirrored or one"
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if distribution == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
                tpu=tpu_name or "local", zone=tpu_zone, project=tpu_project
            )
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, tf.errors.OpError) as failure:
            raise UserError(
                f"pretrain.tpu.name: {tpu_name or 'local'} cannot be reached "
                f"({str(failure).splitlines()[0]}); is this its VM, or the name right?"
            ) from None
        return tf.distribute.TPUStrategy(resolver)
    accelerators = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in accelerators or tf.config.list_logical_devices("CPU")]
    if distribution == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def worker_number(strategy: tf.distribute.Strategy) -> int:
    """The number of this process among those of TF_CONFIG; 0 is the chief, or the only one."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return 0
    has_chief = "chief" in resolver.cluster_spec().jobs
    return int(resolver.task_id or 0) + (has_chief and resolver.task_type != "chief")


def distributed(
    strategy: tf.distribute.Strategy,
    batches: Callable[[int, int], tf.data.Dataset],
) -> tf.distribute.DistributedDataset:
    """Batches of this process's input, a part of equal size for each of its replicas.

    Args:
        batches: (number of the input worker, number of input workers) -> its part of each step's
            rows, in the order of the replicas.
    """

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = batches(context.input_pipeline_id, context.num_input_pipelines)
        replicas = context.num_replicas_in_sync // context.num_input_pipelines
        if replicas == 1:
            return dataset

        def parts(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {
                name: tf.reshape(values, [replicas, -1, *values.shape[1:]])
                for name, values in batch.items()
            }

        def with_shape(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            rows = next(iter(dataset.element_spec.values())).shape[0] // replicas
            return {
                name: tf.ensure_shape(values, [rows, *values.shape[1:]])
                for name, values in batch.items()
            }

        return dataset.map(parts).unbatch().map(with_shape)

    return strategy.distribute_datasets_from_function(of_worker)
