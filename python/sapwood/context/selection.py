"""From the rules of a context to what the scan leaves out of its directory.

Promise: the tree has every file that the rules leave in, every directory that they leave in, and those above them; no
other. Rules that gitignore's patterns say as well are given on as such, and cost nothing. Where one brings back what
lies below something left out, they cannot say it: then the directories in question are walked here, and every place
that is left out is named.
"""

from __future__ import annotations

import os
import re

from sapwood.context.ignore import Rule, Rules
from sapwood.errors import DeniedError, InvalidInputError, UnavailableError

__all__ = ["exclusions"]

_BEYOND_GIT = re.compile(r"[?\[\]\\]|\*\*+[^/]|[^/]\*\*")


def exclusions(root: str, rules: Rules) -> list[str]:
    """Return the patterns of `Options.exclude` that leave out of `root` what the rules do.

    Raises:
        InvalidInputError: `bad-dockerignore`: what they leave out has a name that no pattern can say.
        DeniedError: `path-denied`: a directory may not be read.
        UnavailableError: `io`.
    """
    if _git_can_say(rules):
        return [_in_git(rule) for rule in rules.rules]
    found: list[str] = []
    _walk(root, "", (), rules, found, is_left_out=False)
    return [_literal_in_git(path) for path in sorted(found)]


def _git_can_say(rules: Rules) -> bool:
    """Say whether the patterns of git mean the same: as far as rules bring back, all must speak of the root alone."""
    last = max((at for at, rule in enumerate(rules.rules) if rule.brings_back), default=-1)
    return all(
        _is_plain(rule) and (at > last or ("/" not in rule.pattern and "**" not in rule.pattern))
        for at, rule in enumerate(rules.rules)
    )


def _is_plain(rule: Rule) -> bool:
    return not _BEYOND_GIT.search(rule.pattern) and _is_text(rule.pattern)


def _is_text(path: str) -> bool:
    return path.isprintable() and not any(0xD800 <= ord(c) < 0xE000 for c in path)


def _in_git(rule: Rule) -> str:
    said = re.sub(r"[^\w/.*-]", r"\\\g<0>", rule.pattern)
    return f"{'!' if rule.brings_back else ''}/{said}"


def _literal_in_git(path: str) -> str:
    if not _is_text(path):
        raise InvalidInputError(
            f"{path}: .dockerignore leaves it out, by rules that only hold for names that can be printed",
            kind="bad-dockerignore",
            hint="rename it, or write rules without !, ? and brackets",
        )
    return "/" + re.sub(r"[^\w/.-]", r"\\\g<0>", path)


def _walk(
    root: str, folder: str, above: tuple[bool, ...], rules: Rules, found: list[str], *, is_left_out: bool
) -> bool:
    """Add to `found` what is left out below `folder`; return whether anything is left in."""
    begun, has_any = len(found), False
    for name, is_folder in _entries(os.path.join(root, folder)):
        path = f"{folder}/{name}" if folder else name
        matched = rules.matched(path, above)
        out = rules.decided(matched)
        if is_folder and (not out or rules.may_bring_back_below(path, matched)):
            has_any |= _walk(root, path, matched, rules, found, is_left_out=out)
        elif out:
            found.append(path)
        else:
            has_any = True
    if is_left_out and not has_any:
        del found[begun:]
        found.append(folder)
    return has_any or not is_left_out


def _entries(folder: str) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except FileNotFoundError:  # it has gone since it was seen; of the root the push will say so
        return []
    except PermissionError as error:
        raise DeniedError(f"{folder}: {error.strerror}", kind="path-denied") from error
    except OSError as error:
        raise UnavailableError(f"{folder}: {error.strerror}", kind="io") from error
