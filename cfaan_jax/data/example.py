"""`tf.train.Example` and the framing of TFRecord files, byte for byte as TensorFlow writes them, without TensorFlow."""

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from cfaan_jax.errors import DamagedRecord

HEADER_BYTES = 12  # length (8) and its checksum (4), before the payload
FOOTER_BYTES = 4  # checksum of the payload, after it
BUILD_AGAIN = "run data_prep/build_tfrecords.py again: it makes only what is missing"

_OPTIONAL, _REPEATED = 1, 3
_INT64, _MESSAGE, _BYTES, _STRING, _FLOAT = 3, 11, 12, 9, 2


def _message_classes() -> dict:
    """Builds the classes of tensorflow/core/example/{feature,example}.proto in their own descriptor pool."""
    file = descriptor_pb2.FileDescriptorProto(name="cfaan_jax/example.proto", package="cfaan_jax", syntax="proto3")

    def message(name: str, *fields: tuple) -> descriptor_pb2.DescriptorProto:
        proto = file.message_type.add(name=name)
        for number, (field, label, kind, type_name) in enumerate(fields, start=1):
            proto.field.add(name=field, number=number, label=label, type=kind,
                            type_name=type_name and f".cfaan_jax.{type_name}")
        return proto

    message("BytesList", ("value", _REPEATED, _BYTES, None))
    message("FloatList", ("value", _REPEATED, _FLOAT, None))
    message("Int64List", ("value", _REPEATED, _INT64, None))
    feature = message("Feature", ("bytes_list", _OPTIONAL, _MESSAGE, "BytesList"),
                      ("float_list", _OPTIONAL, _MESSAGE, "FloatList"),
                      ("int64_list", _OPTIONAL, _MESSAGE, "Int64List"))
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", _REPEATED, _MESSAGE, "Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_OPTIONAL, type=_STRING)
    entry.field.add(name="value", number=2, label=_OPTIONAL, type=_MESSAGE, type_name=".cfaan_jax.Feature")
    message("Example", ("features", _OPTIONAL, _MESSAGE, "Features"))
    return message_factory.GetMessages([file], pool=descriptor_pool.DescriptorPool())


_Example = _message_classes()["cfaan_jax.Example"]


def serialize(features: dict[str, list[bytes] | list[int]]) -> bytes:
    """Serialises an Example whose features are lists of bytes or of integers; keys in sorted order."""
    example = _Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        kind = feature.int64_list if values and isinstance(values[0], int) else feature.bytes_list
        kind.SetInParent()
        kind.value.extend(values)
    return example.SerializeToString(deterministic=True)


def parse(payload: bytes) -> dict[str, list]:
    """Reads an Example back, as lists of bytes, integers or floats; ValueError where the bytes are something else."""
    try:
        example = _Example.FromString(payload)
    except DecodeError as error:
        raise ValueError(f"not a tf.train.Example: {error}") from None
    features = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        features[name] = list(getattr(feature, kind).value) if kind else []
    return features


def _masked_checksum(data: bytes) -> bytes:
    checksum = google_crc32c.value(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def pack_tfrecord(payload: bytes) -> bytes:
    """A payload as one record of a TFRecord file: length, its checksum, payload, its checksum."""
    length = struct.pack("<Q", len(payload))
    return length + _masked_checksum(length) + payload + _masked_checksum(payload)


def unpack_tfrecord(record: bytes, where: str) -> bytes:
    """The payload of a record; `DamagedRecord`, naming `where`, if it is cut short or a checksum is wrong."""
    payload = record[HEADER_BYTES:-FOOTER_BYTES]
    if len(record) < HEADER_BYTES + FOOTER_BYTES or record != pack_tfrecord(payload):
        raise DamagedRecord(f"{where} is damaged (length or checksum wrong); delete the file and {BUILD_AGAIN}")
    return payload


def read_file(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Yields (offset of the payload, payload) for every record of a TFRecord file; `DamagedRecord` for a bad one."""
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        offset = number = 0
        while offset < size:
            header = file.read(HEADER_BYTES)
            length = struct.unpack("<Q", header[:8])[0] if len(header) == HEADER_BYTES else size
            length = min(length, size)  # a damaged length must not make this read more than the file holds
            payload = unpack_tfrecord(header + file.read(length + FOOTER_BYTES), f"{path}: record {number}")
            yield offset + HEADER_BYTES, payload
            offset += HEADER_BYTES + length + FOOTER_BYTES
            number += 1
