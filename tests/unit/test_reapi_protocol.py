"""The messages of the REAPI say the same bytes as the core's Directories, and their numbers are the protocol's."""

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from sapwood import Leaf, Tree
from sapwood.reapi.protocol import bots_pb2, bytestream_pb2, deliveries_pb2
from sapwood.reapi.protocol import remote_execution_pb2 as reapi


def test_an_action_has_the_bytes_that_the_protocol_says():
    digest = reapi.Digest(hash="ab" * 32, size_bytes=7)
    wire = bytes.fromhex("0a40") + b"ab" * 32 + bytes.fromhex("1007")
    assert digest.SerializeToString(deterministic=True) == wire
    action = reapi.Action(command_digest=digest, input_root_digest=digest, do_not_cache=True, salt=b"s")
    assert action.SerializeToString(deterministic=True) == b"\x0aD" + wire + b"\x12D" + wire + b"\x38\x01\x4a\x01s"


def test_a_directory_message_hashes_to_the_tree_digest():
    import hashlib

    tree = Tree.of({b"a": b"x", b"run": Leaf.file(b"#!", executable=True), b"l": Leaf.symlink(b"a")})

    def file(name, content, executable=False):
        digest = reapi.Digest(hash=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        return reapi.FileNode(name=name, digest=digest, is_executable=executable)

    message = reapi.Directory(
        files=[file("a", b"x"), file("run", b"#!", True)], symlinks=[reapi.SymlinkNode(name="l", target="a")]
    )
    wire = message.SerializeToString(deterministic=True)
    assert tree.digest == f"sha256:{hashlib.sha256(wire).hexdigest()}"


def test_the_services_have_the_names_that_others_call():
    services = {
        service.full_name: sorted(method.name for method in service.methods)
        for file in (reapi.DESCRIPTOR, bytestream_pb2.DESCRIPTOR, bots_pb2.DESCRIPTOR, deliveries_pb2.DESCRIPTOR)
        for service in file.services_by_name.values()
    }
    assert services == {
        "build.bazel.remote.execution.v2.ActionCache": ["GetActionResult", "UpdateActionResult"],
        "build.bazel.remote.execution.v2.Capabilities": ["GetCapabilities"],
        "build.bazel.remote.execution.v2.ContentAddressableStorage": [
            "BatchReadBlobs", "BatchUpdateBlobs", "FindMissingBlobs", "GetTree", "SpliceBlob", "SplitBlob",
        ],
        "build.bazel.remote.execution.v2.Execution": ["Execute", "WaitExecution"],
        "google.bytestream.ByteStream": ["QueryWriteStatus", "Read", "Write"],
        "google.devtools.remoteworkers.v1test2.Bots": ["CreateBotSession", "UpdateBotSession"],
        "sapwood.v1.Deliveries": ["Deliver"],
    }  # fmt: skip


def test_an_operation_carries_a_response():
    response = reapi.ExecuteResponse(status=status_pb2.Status(code=9, message="no"))
    operation = operations_pb2.Operation(name="one", done=True)
    operation.response.Pack(response)
    read = reapi.ExecuteResponse()
    assert operations_pb2.Operation.FromString(operation.SerializeToString()).response.Unpack(read)
    assert read.status.message == "no"
