"""Builds: what is to be made of which trees, by which command; made once, then known by its key. Spec: docs/build.md.

    from sapwood.build import derivation

    lib = derivation("lib", "cc -c src/lib.c -o lib.o", sources=["src"], outputs=["lib.o"])
    app = derivation("app", "cc src/main.c in/lib.o -o app", sources=["src"], deps={"in": lib}, outputs=["app"])

Promise: what a builder sees and what its key tells are the same; a result is looked up before it is made, and only what
its declaration names comes out. Elsewhere: trees of sources (`sapwood.tree`), where outputs lie (`sapwood.store`).
"""

from sapwood.build.derivation import Derivation, Output, Stored, derivation, output, stored

__all__ = ["Derivation", "Output", "Stored", "derivation", "output", "stored"]
