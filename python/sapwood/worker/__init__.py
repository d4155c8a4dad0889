"""A worker: takes actions from a scheduler, runs each on inputs that are fetched as they are read, sends what it made.

Promise: docs/worker.md. Elsewhere: the sandbox (`sapwood.build.sandbox`), the mount
(`sapwood.mount.blobs`), the protocol (`sapwood.reapi`).
"""
