"""All derivations that some targets need, in an order in which they can be built.

Invariant: dependencies come first; no name stands for two; every output that is asked for is declared. Nothing here
is recursive: a chain of derivations may be as long as memory allows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from sapwood.build.derivation import Derivation, Output
from sapwood.errors import InvalidInputError, NotFoundError

__all__ = ["Graph"]


class Graph:
    """`targets` and all they need; `named` are those that may be referred to by name besides.

    Raises:
        InvalidInputError: `duplicate-name`; `derivation-cycle`; `bad-derivation`: an output that is not declared.
        NotFoundError: `target-missing`: a name that nothing bears.
    """

    def __init__(self, targets: Iterable[Derivation], named: Iterable[Derivation] = ()) -> None:
        self._by_name: dict[str, Derivation] = {}
        targets = list(targets)
        for one in [*targets, *named]:
            self._name(one)
        self.targets = targets
        self.order = self._sort()

    def __iter__(self) -> Iterator[Derivation]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)

    def find(self, name: str) -> Derivation:
        """Return the derivation of this name; errors as of the class."""
        found = self._by_name.get(name)
        if found is None:
            close = difflib.get_close_matches(name, self._by_name, n=1)
            raise NotFoundError(
                f"no derivation {name}",
                kind="target-missing",
                hint=f"there is {close[0]}" if close else f"there are: {', '.join(sorted(self._by_name)[:20])}",
            )
        return found

    def resolve(self, wanted: Output) -> Derivation:
        """Return whose output it is."""
        return wanted.of if isinstance(wanted.of, Derivation) else self.find(wanted.of)

    def needs(self, one: Derivation) -> list[Derivation]:
        """Return what a derivation depends on, each once."""
        return list(dict.fromkeys(self.resolve(wanted) for _, wanted in one.deps))

    def _name(self, one: Derivation) -> None:
        """Know all that is reachable by reference; names are looked up when all are known."""
        todo = [one]
        while todo:
            found = todo.pop()
            known = self._by_name.setdefault(found.name, found)
            if known is not found:
                raise InvalidInputError(
                    f"two derivations are called {found.name}, of {known.base} and {found.base}",
                    kind="duplicate-name",
                    hint="give each a name of its own",
                )
            todo += [
                wanted.of
                for _, wanted in found.deps
                if isinstance(wanted.of, Derivation) and self._by_name.get(wanted.of.name) is not wanted.of
            ]

    def _sort(self) -> list[Derivation]:
        order: list[Derivation] = []
        done: set[Derivation] = set()
        way: dict[Derivation, Iterator[Derivation]] = {}
        for target in self.targets:
            if target in done:
                continue
            self._check(target)
            way[target] = iter(self.needs(target))
            while way:
                last = next(reversed(way))
                for needed in way[last]:
                    if needed in way:
                        raise _cycle(list(way), needed)
                    if needed not in done:
                        self._check(needed)
                        way[needed] = iter(self.needs(needed))
                        break
                else:
                    done.add(last)
                    order.append(last)
                    del way[last]
        return order

    def _check(self, one: Derivation) -> None:
        for place, wanted in one.deps:
            whose = self.resolve(wanted)
            if wanted.path is not None and wanted.path not in whose.outputs:
                raise InvalidInputError(
                    f"derivation {one.name}: what is to be at {place}, {wanted}, is no output of {whose.name}",
                    kind="bad-derivation",
                    hint=f"its outputs: {', '.join(whose.outputs) or 'none'}",
                )


def _cycle(way: list[Derivation], again: Derivation) -> InvalidInputError:
    names = [one.name for one in way[way.index(again) :]] + [again.name]
    return InvalidInputError(
        f"derivations need each other in a circle: {' -> '.join(names)}",
        kind="derivation-cycle",
        hint=f"let {names[-2]} do without {again.name}",
    )
