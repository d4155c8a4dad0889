"""Coverage: what of a tree is ever read, over all runs that were recorded, and what never is.

Promise: a file counts as read when any of its bytes were asked for; what was only looked up, listed or linked to is not
a reading, so what a drop list names may still be missed. A hard link is read when its first name is.
Elsewhere: recording (`profile`), which package a file is of (`packages`), the picture (`treemap`).
"""

from sapwood.coverage.measure import Area, Coverage, Layer, Seen, files_of, layers_with, measure, packages_with
from sapwood.coverage.treemap import treemap

__all__ = ["Area", "Coverage", "Layer", "Seen", "files_of", "layers_with", "measure", "packages_with", "treemap"]
