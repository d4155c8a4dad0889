"""The Remote Execution API (REAPI) as messages; what they mean to sapwood: docs/build.md, docs/serve.md.

Promise: importing this package loads no gRPC. `sapwood.reapi.protocol` holds the generated messages and services,
`channel` and `cas` are clients.
Elsewhere: who answers (`sapwood.serve`), who asks (`sapwood.build`).
"""
