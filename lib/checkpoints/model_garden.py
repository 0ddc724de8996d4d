"""TensorFlow 2 checkpoints of the Model Garden (github.com/tensorflow/models, official/nlp).

A directory has the files of a TensorFlow checkpoint (`lib.checkpoints.tensor_bundle`) and a config:
`bert_config.json`, or the `params.yaml` of `train.py` (`lib.checkpoints.model_garden_config`).

A TF2 checkpoint is an object graph: Keras models, layers and variables, connected by named edges.
A tensor's own name is just one of the paths to its variable (that of the word embeddings is often
`masked_lm/embedding_table`), so tensors are found by walking the graph. Paths from the encoder and
the heads, in two forms, depending on how the Keras model was built:

    parameter                  by attribute                           by order of computation
    -------------------------  -------------------------------------  -----------------------------
    word embeddings            _embedding_layer/embeddings            layer_with_weights-0/...
    position embeddings        _position_embedding_layer/embeddings   layer_with_weights-1/...
    token type embeddings      _type_embedding_layer/embeddings       layer_with_weights-2/...
    embedding LayerNorm        _embedding_norm_layer/{gamma,beta}     layer_with_weights-3/...
    encoder layer N            _transformer_layers/N/...              layer_with_weights-(4+N)/...
    pooler, after L layers     _pooler_layer/{kernel,bias}            layer_with_weights-(4+L)/...
    MLM head, dense            dense/{kernel,bias}                    layer_with_weights-0/...
    MLM head, LayerNorm        layer_norm/{gamma,beta}                layer_with_weights-1/...
    MLM head, output bias      bias                                   layer_with_weights-2/bias
    NSP head, output layer     out_proj/{kernel,bias}                 layer_with_weights-0/...

Attention kernels have an axis for the heads: query, key and value are [hidden, heads, head size],
the output kernel is [heads, head size, hidden]; the NSP kernel is [hidden, 2].

Three generations of the code are in use:

- `BertPretrainerV2` saves its `checkpoint_items` (`encoder`, `masked_lm`,
  `next_sentence.pooler_dense`) and often itself (`model`), which alone has the NSP output layer.
- `BertPretrainer` and the encoders released as `keras_bert` are functional Keras models, with
  `layer_with_weights-N` in the encoder.
- Code up to summer 2020 (COVID-Twitter-BERT's) has these in the heads too, and another path to the
  attention output layer. It computes the MLM head without an activation function.

Optimizer slots, step counters and the untrained pooler of an encoder whose head has its own are
skipped. Refused: checkpoints without a BERT encoder, and missing, unexpected or misshapen tensors.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lib.checkpoints.model_garden_config import PARAMS, read_params
from lib.checkpoints.protobuf import parse
from lib.checkpoints.tensor_bundle import (
    CONFIG_NAMES,
    TensorBundle,
    find_prefix,
    read_checkpoint_config,
)
from lib.checkpoints.tensors import StoredModel, StoredTensor, refuse_unexpected
from lib.model.bert_config import BertConfig
from lib.run.errors import UserError

# Parameters of a part of the model -> paths from its object: by attribute, by order of computation.
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
_LAYER = {
    f"{scope}/{leaf}": tuple(f"{path}/{leaf}" for path in paths)
    for scope, *paths in (
        ("attention/self/query", "_attention_layer/_query_dense"),
        ("attention/self/key", "_attention_layer/_key_dense"),
        ("attention/self/value", "_attention_layer/_value_dense"),
        ("attention/output/dense", "_attention_layer/_output_dense", "_attention_output_dense"),
        ("attention/output/LayerNorm", "_attention_layer_norm"),
        ("intermediate/dense", "_intermediate_dense"),
        ("output/dense", "_output_dense"),
        ("output/LayerNorm", "_output_layer_norm"),
    )
    for leaf in ("kernel", "bias", "gamma", "beta")
}
_POOLER = {"kernel": ("kernel",), "bias": ("bias",)}
_MLM_HEAD = {
    "transform/dense/kernel": ("dense/kernel", "layer_with_weights-0/kernel"),
    "transform/dense/bias": ("dense/bias", "layer_with_weights-0/bias"),
    "transform/LayerNorm/gamma": ("layer_norm/gamma", "layer_with_weights-1/gamma"),
    "transform/LayerNorm/beta": ("layer_norm/beta", "layer_with_weights-1/beta"),
    "output_bias": ("bias", "layer_with_weights-2/bias"),
}
_NSP_HEAD = {
    "output_weights": ("out_proj/kernel", "layer_with_weights-0/kernel"),
    "output_bias": ("out_proj/bias", "layer_with_weights-0/bias"),
}


class _ObjectGraph:
    """A checkpoint's object graph. Objects are node numbers; 0 is the object that was saved."""

    def __init__(self, serialized: bytes) -> None:
        """
        Raises:
            ValueError: it is damaged.
        """
        nodes = parse("ObjectGraph", serialized).nodes
        if not nodes:
            raise ValueError("no objects")
        if any(not 0 <= child.node_id < len(nodes) for node in nodes for child in node.children):
            raise ValueError("an object that is missing")
        self.children = [
            {child.local_name: child.node_id for child in node.children} for node in nodes
        ]
        self._keys = [[each.checkpoint_key for each in node.attributes] for node in nodes]

    def find(self, start: int | None, path: str) -> int | None:
        """The object at the end of a path of edge names, or None."""
        for name in path.split("/"):
            if start is None:
                return None
            start = self.children[start].get(name)
        return start

    def tensor(self, start: int | None, paths: tuple[str, ...]) -> str | None:
        """The tensor name of the variable at the first of these paths that leads to one."""
        for path in paths:
            found = self.find(start, path)
            if found is not None and self._keys[found]:
                return self._keys[found][0]
        return None

    def reachable(self, start: int) -> Iterator[int]:
        """The object and all objects reachable from it, breadth first."""
        seen = {start: None}
        queue = [start]
        for node in queue:
            yield node
            fresh = [child for child in self.children[node].values() if child not in seen]
            seen.update(dict.fromkeys(fresh))
            queue += dict.fromkeys(fresh)

    def first(self, matches: Callable[[int], object]) -> int | None:
        """The object nearest to the root that matches."""
        return next((node for node in self.reachable(0) if matches(node)), None)

    def tensors_below(self, start: int | None) -> set[str]:
        """The tensor names of all variables reachable from an object."""
        if start is None:
            return set()
        return {key for node in self.reachable(start) for key in self._keys[node]}


def _read_graph(bundle: TensorBundle) -> _ObjectGraph:
    try:
        return _ObjectGraph(bundle.object_graph())
    except ValueError as failure:
        raise UserError(
            f"{bundle.source}: its object graph is damaged ({failure}); copy the checkpoint again"
        ) from None


class _BertObjects:
    """The objects of a BERT's parts in the graph; None for parts that are missing.

    Attributes:
        encoder, encoder_pooler: objects.
        names: parameter-table name -> name of its tensor in the checkpoint, or None.
    """

    def __init__(self, graph: _ObjectGraph, layers: int) -> None:
        find = graph.find
        self.encoder = graph.first(lambda node: graph.tensor(node, _EMBEDDINGS["word_embeddings"]))
        mlm_head = _find_mlm_head(graph)
        nsp_head = _find_nsp_head(graph, self.encoder, mlm_head)
        self.encoder_pooler = find(self.encoder, "_pooler_layer") or find(
            self.encoder, f"layer_with_weights-{_FIRST_LAYER + layers}"
        )
        # A classification head has its own pooler; the encoder's is then never trained.
        pooler = (
            find(nsp_head, "dense") or find(0, "next_sentence.pooler_dense") or self.encoder_pooler
        )
        parts: list[tuple[str, int | None, Mapping[str, tuple[str, ...]]]] = [
            ("bert/embeddings", self.encoder, _EMBEDDINGS),
            ("bert/pooler/dense", pooler, _POOLER),
            ("cls/predictions", mlm_head, _MLM_HEAD),
            ("cls/seq_relationship", nsp_head, _NSP_HEAD),
        ]
        for number in range(layers):
            layer = find(self.encoder, f"_transformer_layers/{number}") or find(
                self.encoder, f"layer_with_weights-{_FIRST_LAYER + number}"
            )
            parts.append((f"bert/encoder/layer_{number}", layer, _LAYER))
        self.names = {
            f"{scope}/{parameter}": graph.tensor(start, paths)
            for scope, start, table in parts
            for parameter, paths in table.items()
        }


def _find_mlm_head(graph: _ObjectGraph) -> int | None:
    return graph.first(lambda node: all(graph.tensor(node, p) for p in _MLM_HEAD.values()))


def _find_nsp_head(graph: _ObjectGraph, encoder: int | None, mlm_head: int | None) -> int | None:
    """The classification head next to the MLM head.

    Without an MLM head, the model was fine-tuned and its head classifies something else.
    """
    if mlm_head is None:
        return None
    head = graph.first(lambda node: graph.tensor(node, ("out_proj/kernel",)))
    if head is not None:
        return head
    for node in graph.reachable(0):
        parts = set(graph.children[node].values())
        if {encoder, mlm_head} <= parts:
            for part in sorted(parts - {encoder, mlm_head}):
                if graph.tensor(part, _NSP_HEAD["output_weights"]):
                    return part
    return None


def _stored_shape(parameter: str, shape: tuple[int, ...], config: BertConfig) -> tuple[int, ...]:
    """The shape of a parameter's tensor: attention kernels have an axis for the heads."""
    heads, size = config.num_attention_heads, config.head_size
    if "/attention/self/" in parameter:
        return (*shape[:-1], heads, size)  # [H, H] -> [H, N, D]; a bias [H] -> [N, D]
    if parameter.endswith("/attention/output/dense/kernel"):
        return (heads, size, shape[-1])  # [H, H] -> [N, D, H]
    # [2, H] -> [H, 2]
    return shape[::-1] if parameter.endswith("seq_relationship/output_weights") else shape


def _stored_tensors(config: BertConfig, names: Mapping[str, str | None]) -> dict[str, StoredTensor]:
    """Parameter-table name -> tensor; a missing one has the parameter's name, which none has."""
    return {
        parameter.name: StoredTensor(
            names[parameter.name] or parameter.name,
            _stored_shape(parameter.name, parameter.shape, config),
            transposed=parameter.name.endswith("seq_relationship/output_weights"),
        )
        for parameter in config.parameter_table()
    }


def _read_config(prefix: Path) -> BertConfig:
    """The config in the checkpoint's folder; a JSON config is preferred to params.yaml."""
    params = prefix.parent / PARAMS
    has_json = any((prefix.parent / name).exists() for name in CONFIG_NAMES)
    if params.exists() and not has_json:
        return read_params(params)
    return read_checkpoint_config(prefix)


def stored_model(path: Path) -> StoredModel:
    """One of the Model Garden's BERTs, in a checkpoint that `tf.train.Checkpoint` wrote.

    Args:
        path: its folder, or the prefix of its file names.

    Raises:
        UserError: a file is missing or damaged, or there is no BERT with the config's layers.
    """
    prefix = find_prefix(path)
    config = _read_config(prefix)
    bundle = TensorBundle(prefix)
    graph = _read_graph(bundle)
    bert = _BertObjects(graph, config.num_hidden_layers)
    if bert.encoder is None:
        raise UserError(
            f"{prefix}: no BERT encoder among its objects "
            f"({', '.join(sorted(graph.children[0])[:5])}); use the checkpoint of a BERT"
        )
    table = _stored_tensors(config, bert.names)
    parameters = {tensor.name for tensor in table.values()}
    skipped = graph.tensors_below(bert.encoder_pooler)
    beyond = graph.tensors_below(bert.encoder) - parameters - skipped
    refuse_unexpected(prefix, config, sorted(beyond))
    for node in graph.reachable(0):
        skipped |= graph.tensors_below(graph.children[node].get("optimizer"))
    shapes = {
        name: shape
        for name, shape in bundle.shapes.items()
        # Scalars are step counters, hyperparameters and the object graph.
        if name in parameters or (shape and name not in skipped and "/.OPTIMIZER_SLOT/" not in name)
    }
    return StoredModel(str(prefix), config, table, shapes, bundle.read)


def compatibility_notes(path: Path) -> list[str]:
    """What the code that wrote a checkpoint computes differently from this project, a line each."""
    graph = _read_graph(TensorBundle(find_prefix(path)))
    if graph.find(_find_mlm_head(graph), "layer_with_weights-0") is None:
        return []
    return [
        f"{path}: trained by the Model Garden's code of 2020, whose MLM head has no activation "
        "function; BERT's has one, so masked words are predicted poorly until training continues"
    ]
