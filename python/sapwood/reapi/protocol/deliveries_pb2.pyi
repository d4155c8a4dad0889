from sapwood.reapi.protocol import remote_execution_pb2 as _remote_execution_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Blobs(_message.Message):
    __slots__ = ("hashes", "sizes")
    HASHES_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    hashes: bytes
    sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, hashes: _Optional[bytes] = ..., sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class Announcement(_message.Message):
    __slots__ = ("instance_name", "session", "number", "announced", "trees", "examined", "withdrawn", "done")
    INSTANCE_NAME_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCED_FIELD_NUMBER: _ClassVar[int]
    TREES_FIELD_NUMBER: _ClassVar[int]
    EXAMINED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    instance_name: str
    session: str
    number: int
    announced: Blobs
    trees: _containers.RepeatedCompositeFieldContainer[_remote_execution_pb2.Digest]
    examined: _remote_execution_pb2.Digest
    withdrawn: Blobs
    done: bool
    def __init__(self, instance_name: _Optional[str] = ..., session: _Optional[str] = ..., number: _Optional[int] = ..., announced: _Optional[_Union[Blobs, _Mapping]] = ..., trees: _Optional[_Iterable[_Union[_remote_execution_pb2.Digest, _Mapping]]] = ..., examined: _Optional[_Union[_remote_execution_pb2.Digest, _Mapping]] = ..., withdrawn: _Optional[_Union[Blobs, _Mapping]] = ..., done: _Optional[bool] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("answers", "missing", "wanted", "unwanted", "arrived")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    UNWANTED_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    answers: int
    missing: bytes
    wanted: Blobs
    unwanted: Blobs
    arrived: Blobs
    def __init__(self, answers: _Optional[int] = ..., missing: _Optional[bytes] = ..., wanted: _Optional[_Union[Blobs, _Mapping]] = ..., unwanted: _Optional[_Union[Blobs, _Mapping]] = ..., arrived: _Optional[_Union[Blobs, _Mapping]] = ...) -> None: ...
