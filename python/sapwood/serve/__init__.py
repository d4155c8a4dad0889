"""A server of blobs and results of actions to clients of the Remote Execution API, over any store: docs/serve.md.

Promise: what a client was told is stored survives power loss, and is given back proved. `server.serve` is the way in.
Elsewhere: what the messages are (`reapi`), who builds (`build`), packs and refs (`push`, `store`).
"""
