"""TensorFlow 2 checkpoints of the Model Garden (github.com/tensorflow/models, official/nlp).

Such a checkpoint is a graph of objects. A tensor's own name is just one of the paths to its
variable (that of the word embeddings is often `masked_lm/embedding_table`), so the graph is walked
from object to object. Three generations of the code are out there:

- `BertPretrainerV2` saves its `checkpoint_items` (`encoder`, `masked_lm`,
  `next_sentence.pooler_dense`) and perhaps itself (`model`), which alone has the NSP logits;
- `BertPretrainer` and the encoders released as `keras_bert` are functional Keras models: their
  parts are `layer_with_weights-0`, `-1`, … in the order of the computation;
- the oldest of these (until summer 2020; COVID-Twitter-BERT is one) have such numbers in the heads,
  too, and call the attention's output layer otherwise. Their MLM head was computed without an
  activation.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from lib.checkpoints.model_garden_config import PARAMS, read_params
from lib.checkpoints.tensor_bundle import (
    CONFIGS,
    TensorBundle,
    find_prefix,
    read_config_beside,
)
from lib.checkpoints.tensors import Checkpoint, StoredTensor, assemble
from lib.model.config import BertConfig
from lib.model.parameters import parameter_table
from lib.run import tf
from lib.run.errors import UserError

# Paths from the encoder: by attribute, and by the order of computation.
_EMBEDDINGS = {
    "word_embeddings": ("_embedding_layer/embeddings", "layer_with_weights-0/embeddings"),
    "position_embeddings": (
        "_position_embedding_layer/embeddings",
        "layer_with_weights-1/embeddings",
    ),
    "token_type_embeddings": (
        "_type_embedding_layer/embeddings",
        "layer_with_weights-2/embeddings",
    ),
    "LayerNorm/gamma": ("_embedding_norm_layer/gamma", "layer_with_weights-3/gamma"),
    "LayerNorm/beta": ("_embedding_norm_layer/beta", "layer_with_weights-3/beta"),
}
_FIRST_LAYER = 4
# The parameter table's scope in a layer -> paths from the layer.
_LAYER = {
    "attention/self/query": ("_attention_layer/_query_dense",),
    "attention/self/key": ("_attention_layer/_key_dense",),
    "attention/self/value": ("_attention_layer/_value_dense",),
    "attention/output/dense": ("_attention_layer/_output_dense", "_attention_output_dense"),
    "attention/output/LayerNorm": ("_attention_layer_norm",),
    "intermediate/dense": ("_intermediate_dense",),
    "output/dense": ("_output_dense",),
    "output/LayerNorm": ("_output_layer_norm",),
}
# Paths from the heads.
_MASKED_LM = {
    "transform/dense/kernel": ("dense/kernel", "layer_with_weights-0/kernel"),
    "transform/dense/bias": ("dense/bias", "layer_with_weights-0/bias"),
    "transform/LayerNorm/gamma": ("layer_norm/gamma", "layer_with_weights-1/gamma"),
    "transform/LayerNorm/beta": ("layer_norm/beta", "layer_with_weights-1/beta"),
    "output_bias": ("bias", "layer_with_weights-2/bias"),
}
_NEXT_SENTENCE = {
    "output_weights": ("out_proj/kernel", "layer_with_weights-0/kernel"),
    "output_bias": ("out_proj/bias", "layer_with_weights-0/bias"),
}


class _Objects:
    """The graph of objects; an object is its number in it, 0 the one that was saved."""

    def __init__(self, serialized: bytes) -> None:
        tf.load()  # Before its submodule, so that it is quiet.
        from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

        nodes = TrackableObjectGraph.FromString(serialized).nodes
        self.children = [{c.local_name: c.node_id for c in node.children} for node in nodes]
        self._keys = [[a.checkpoint_key for a in node.attributes] for node in nodes]

    def at(self, start: int | None, path: str) -> int | None:
        """The object at the end of a path of names, None if there is none."""
        for name in path.split("/"):
            if start is None:
                return None
            start = self.children[start].get(name)
        return start

    def tensor(self, start: int | None, paths: tuple[str, ...]) -> str | None:
        """The name of the tensor of the variable at the first of the paths that leads to one."""
        for path in paths:
            found = self.at(start, path)
            if found is not None and self._keys[found]:
                return self._keys[found][0]
        return None

    def below(self, start: int) -> Iterator[int]:
        """The object and all that can be reached from it, the nearest first."""
        found = {start: None}
        waiting = [start]
        for number in waiting:
            yield number
            fresh = [child for child in self.children[number].values() if child not in found]
            found.update(dict.fromkeys(fresh))
            waiting += dict.fromkeys(fresh)

    def first(self, matches: Callable[[int], object]) -> int | None:
        """The nearest object to what was saved that matches."""
        return next((number for number in self.below(0) if matches(number)), None)

    def tensors_below(self, start: int | None) -> set[str]:
        """The names of the tensors of all variables that can be reached."""
        if start is None:
            return set()
        return {key for number in self.below(start) for key in self._keys[number]}


def _masked_lm(objects: _Objects) -> int | None:
    return objects.first(lambda n: all(objects.tensor(n, p) for p in _MASKED_LM.values()))


class _Model:
    """Where the parts of a BERT are among the objects; None for those that are not there."""

    def __init__(self, objects: _Objects, layers: int) -> None:
        self.objects = objects
        tensor, at = objects.tensor, objects.at
        self.encoder = objects.first(lambda n: tensor(n, _EMBEDDINGS["word_embeddings"]))
        self.masked_lm = _masked_lm(objects)
        self.next_sentence = self._next_sentence()
        self.layers = [
            at(self.encoder, f"_transformer_layers/{number}")
            or at(self.encoder, f"layer_with_weights-{_FIRST_LAYER + number}")
            for number in range(layers)
        ]
        self.encoders_pooler = at(self.encoder, "_pooler_layer") or at(
            self.encoder, f"layer_with_weights-{_FIRST_LAYER + layers}"
        )
        # A classification head has a pooler of its own; the encoder's is then never trained.
        self.pooler = (
            at(self.next_sentence, "dense")
            or at(0, "next_sentence.pooler_dense")
            or self.encoders_pooler
        )

    def _next_sentence(self) -> int | None:
        """The head beside the MLM head; without that it is a classifier's, of something else."""
        if self.masked_lm is None:
            return None
        objects = self.objects
        head = objects.first(lambda n: objects.tensor(n, ("out_proj/kernel",)))
        if head is not None:
            return head
        for number in objects.below(0):
            parts = set(objects.children[number].values())
            if {self.encoder, self.masked_lm} <= parts:
                for part in sorted(parts - {self.encoder, self.masked_lm}):
                    if objects.tensor(part, _NEXT_SENTENCE["output_weights"]):
                        return part
        return None

    def name_of(self, parameter: str) -> str | None:
        """The name of a parameter's tensor."""
        tensor = self.objects.tensor
        scope, _, rest = parameter.partition("/")
        group, _, rest = rest.partition("/")
        if scope == "cls":
            if group == "predictions":
                return tensor(self.masked_lm, _MASKED_LM[rest])
            return tensor(self.next_sentence, _NEXT_SENTENCE[rest])
        if group == "embeddings":
            return tensor(self.encoder, _EMBEDDINGS[rest])
        leaf = rest.rpartition("/")[2]
        if group == "pooler":
            return tensor(self.pooler, (leaf,))
        layer, _, rest = rest.partition("/")
        inner = rest.rpartition("/")[0]
        start = self.layers[int(layer.removeprefix("layer_"))]
        return tensor(start, tuple(f"{path}/{leaf}" for path in _LAYER[inner]))


def _shape(parameter: str, shape: tuple[int, ...], config: BertConfig) -> tuple[int, ...]:
    """The shape of a parameter's tensor: attention has an axis of its own for the heads."""
    heads, size = config.num_attention_heads, config.head_size
    if "/attention/self/" in parameter:
        return (*shape[:-1], heads, size)
    if parameter.endswith("/attention/output/dense/kernel"):
        return (heads, size, shape[-1])
    return shape[::-1] if parameter.endswith("seq_relationship/output_weights") else shape


def _stored(config: BertConfig, model: _Model) -> dict[str, StoredTensor]:
    """How the checkpoint keeps each parameter; those it lacks under the parameter's own name."""
    return {
        parameter.name: StoredTensor(
            model.name_of(parameter.name) or parameter.name,
            _shape(parameter.name, parameter.shape, config),
            transposed=parameter.name.endswith("seq_relationship/output_weights"),
        )
        for parameter in parameter_table(config)
    }


def _read_config(prefix: Path) -> BertConfig:
    params = prefix.parent / PARAMS
    stated = any((prefix.parent / name).exists() for name in CONFIGS)
    return read_params(params) if params.exists() and not stated else read_config_beside(prefix)


def read_checkpoint(place: Path, allow_missing_heads: bool = False) -> Checkpoint:
    """Reads a checkpoint as `tf.train.Checkpoint` writes it of the Model Garden's BERTs.

    Args:
        place: its folder, or in it what the names of its files begin with.
        allow_missing_heads: see `assemble`.

    Raises:
        UserError: a file is missing or damaged, or the tensors are not those of its config.
    """
    prefix = find_prefix(place)
    config = _read_config(prefix)
    bundle = TensorBundle(prefix)
    objects = _Objects(bundle.object_graph())
    model = _Model(objects, config.num_hidden_layers)
    if model.encoder is None:
        raise UserError(
            f"{prefix}: no BERT encoder among its objects "
            f"({', '.join(sorted(objects.children[0])[:5])}); is it a checkpoint of a BERT?"
        )
    table = _stored(config, model)
    own = {stored.name for stored in table.values()}
    unused = objects.tensors_below(model.encoders_pooler)
    beyond = sorted(objects.tensors_below(model.encoder) - own - unused)
    if beyond:
        raise UserError(
            f"{prefix}: {beyond[0]}{f' and {len(beyond) - 1} more' if beyond[1:] else ''}: no part "
            f"of a BERT with {config.num_hidden_layers} layers; does its config belong to it?"
        )
    for number in objects.below(0):
        unused |= objects.tensors_below(objects.children[number].get("optimizer"))
    names = [
        name
        for name, shape in bundle.shapes.items()
        # Single numbers are step counters and hyperparameters (and the graph of objects).
        if name in own or (shape and name not in unused and "/.OPTIMIZER_SLOT/" not in name)
    ]
    return assemble(
        str(prefix),
        config,
        table,
        names,
        bundle.shapes.__getitem__,
        bundle.read,
        allow_missing_heads,
    )


def compatibility_notes(place: Path) -> list[str]:
    """What a checkpoint's own code computes otherwise than this project, each a line for people.

    Args:
        place: see `read_checkpoint`.
    """
    objects = _Objects(TensorBundle(find_prefix(place)).object_graph())
    if objects.at(_masked_lm(objects), "layer_with_weights-0") is None:
        return []
    return [
        f"{place}: the Model Garden of 2020 computed this MLM head without an activation; here and "
        "everywhere else it has one, so its predictions are poor until it is trained on"
    ]
