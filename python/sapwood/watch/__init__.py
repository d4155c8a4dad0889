"""Watching: a hash of a directory that knows what changed (docs/watch.md).

Promise: with a watcher or without, `hash` and `status` say the same; a watcher that dies is as if there were none.
Elsewhere: asking it (`sapwood.tree.watched`), what the kernel tells and does not (the core).
"""

from sapwood.watch.process import Started, start
from sapwood.watch.server import serve
from sapwood.watch.table import Watching, stop, watchers

__all__ = ["Started", "Watching", "serve", "start", "stop", "watchers"]
