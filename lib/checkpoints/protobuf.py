"""Protocol buffer messages in TensorFlow checkpoints, parsed by the protobuf library.

TensorFlow's own classes for them would do, but importing it takes seconds. Fields that are not read
here are left out, and the library is imported at first use.
"""

from functools import cache
from typing import Any

# Message -> name of a field -> number and type. From tensor_bundle.proto, tensor_shape.proto and
# trackable_object_graph.proto in tensorflow/core.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "BundleHeader": {"num_shards": (1, "int32"), "endianness": (2, "int32")},
    "BundleEntry": {
        "dtype": (1, "int32"),
        "shape": (2, "Shape"),
        "shard_id": (3, "int32"),
        "offset": (4, "int64"),
        "size": (5, "int64"),
        "crc32c": (6, "fixed32"),
        "slices": (7, "repeated Slice"),
    },
    "Shape": {"dim": (2, "repeated Dim")},
    "Dim": {"size": (1, "int64")},
    "Slice": {},
    "ObjectGraph": {"nodes": (1, "repeated Object")},
    "Object": {"children": (1, "repeated Child"), "attributes": (2, "repeated Attribute")},
    "Child": {"node_id": (1, "int32"), "local_name": (2, "string")},
    "Attribute": {"checkpoint_key": (3, "string")},
}


def parse(message: str, data: bytes) -> Any:
    """A message of `_MESSAGES`, with its fields as attributes.

    Raises:
        ValueError: it is damaged.
    """
    from google.protobuf.message import DecodeError

    try:
        return _message_class(message).FromString(data)
    except DecodeError as failure:
        raise ValueError(str(failure)) from None


@cache
def _message_class(message: str) -> Any:
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"checkpoints.{message}"))


@cache
def _pool() -> Any:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

    file = FileDescriptorProto(name="checkpoints", package="checkpoints", syntax="proto3")
    for message, fields in _MESSAGES.items():
        added = file.message_type.add(name=message)
        for name, (number, description) in fields.items():
            repeated, _, kind = description.rpartition(" ")
            field = added.field.add(name=name, number=number)
            field.label = FieldDescriptorProto.Label.Value(
                "LABEL_REPEATED" if repeated else "LABEL_OPTIONAL"
            )
            if kind in _MESSAGES:
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".checkpoints.{kind}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return pool
