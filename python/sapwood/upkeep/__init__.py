"""Upkeep: what keeps a store small, sound and known, apart from pushing to it and reading it.

Promise: nothing here takes away what a ref's history needs, and each may be killed anywhere and run again.
Elsewhere: what is alive (`store.history`), who may do what in which order (docs/store.md).
"""
