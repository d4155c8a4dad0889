"""Build contexts: a directory goes to its builder as what changed in it, and is there before it has all arrived.

Promise: the tree of a context has what docker would send of the directory, by the same `.dockerignore`
(docs/context.md). Not here: moving trees (`push`), showing them (`mount`), running commands (`cli`).
"""

from __future__ import annotations
