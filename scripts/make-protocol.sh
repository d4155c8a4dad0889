#!/bin/sh
# make-protocol.sh make|check: generates python/sapwood/reapi/protocol/*_pb2* of the .proto files there; check: says whether
# what is there is what would be generated. By the pinned grpcio-tools of requirements/dev.txt.
set -eu
cd "$(dirname "$0")/../python"
python=${PYTHON:-$PWD/../.venv/bin/python}
room=sapwood/reapi/protocol
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
# googleapis-common-protos has the file under a name that it does not bear.
includes=$("$python" -c '
import pathlib, sys, google.longrunning, grpc_tools
google = pathlib.Path(list(google.longrunning.__path__)[0]).parent
named = pathlib.Path(sys.argv[1], "google/longrunning/operations.proto")
named.parent.mkdir(parents=True)
named.write_bytes((google / "longrunning/operations_proto.proto").read_bytes())
print(f"-I{sys.argv[1]} -I{google.parent} -I{pathlib.Path(grpc_tools.__file__).parent}/_proto")' "$made")
# shellcheck disable=SC2086 # three words
"$python" -m grpc_tools.protoc -I. $includes --python_out="$made" --pyi_out="$made" --grpc_python_out="$made" $room/*.proto
rm -f "$made/$room/semver_pb2_grpc.py" # messages only
case $1 in
make) cp "$made/$room"/* $room/ ;;
check)
    for file in "$made/$room"/*; do
        cmp -s "$file" "$room/${file##*/}" || { echo "$room/${file##*/} is not what its .proto makes: scripts/make-protocol.sh make" >&2; exit 1; }
    done
    ;;
esac
