"""`sapwood completion`: scripts that complete commands, options and file names in a shell.

Made from the parsers themselves, so a script never knows an option that its command lacks.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from sapwood.cli.command import Command


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=sorted(_SCRIPTS), help="bash, fish or zsh")


def _run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(_SCRIPTS[arguments.shell](_options()))
    return 0


def _options() -> dict[str, tuple[str, dict[str, str]]]:
    """Return command -> (summary, option -> its help)."""
    from sapwood.cli.main import modules, summaries

    found: dict[str, tuple[str, dict[str, str]]] = {}
    for name, module in modules().items():
        command: Command = import_module(f"sapwood.cli.{module}").COMMANDS[name]
        parser = command.parser(name, summaries()[name])
        options = {option: action.help or "" for action in parser._actions for option in action.option_strings}
        found[name] = (summaries()[name], options)
    return found


def _bash(commands: dict[str, tuple[str, dict[str, str]]]) -> str:
    cases = "".join(f"        {name}) options='{' '.join(options)}' ;;\n" for name, (_, options) in commands.items())
    return f"""\
# eval "$(sapwood completion bash)"
_sapwood() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} options=
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W '{" ".join(commands)} --help --version' -- "$word"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{cases}    esac
    case $word in
        -*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
    esac
}}
complete -o default -F _sapwood sapwood
"""


def _zsh(commands: dict[str, tuple[str, dict[str, str]]]) -> str:
    names = "".join(f"        {_single(f'{name}:{summary}')}\n" for name, (summary, _) in commands.items())
    cases = "".join(
        f"        {name}) options=({' '.join(_single(f'{o}:{h}') for o, h in options.items())}) ;;\n"
        for name, (_, options) in commands.items()
    )
    return f"""\
#compdef sapwood
# eval "$(sapwood completion zsh)"
_sapwood() {{
    local -a commands options
    commands=(
{names}    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    case $words[2] in
{cases}    esac
    if [[ $words[CURRENT] == -* ]]; then
        _describe option options
    else
        _files
    fi
}}
compdef _sapwood sapwood
"""


def _fish(commands: dict[str, tuple[str, dict[str, str]]]) -> str:
    lines = ["# sapwood completion fish | source"]
    for name, (summary, options) in commands.items():
        lines.append(f"complete -c sapwood -n __fish_use_subcommand -f -a {name} -d {_single(summary)}")
        for option, words in options.items():
            form = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"complete -c sapwood -n '__fish_seen_subcommand_from {name}' {form} -d {_single(words)}")
    return "\n".join(lines) + "\n"


def _single(words: str) -> str:
    """Quote for a shell."""
    return "'" + words.replace("'", "'\\''") + "'"


_SCRIPTS = {"bash": _bash, "fish": _fish, "zsh": _zsh}

COMMANDS = {
    "completion": Command(
        _configure,
        _run,
        """
        eval "$(sapwood completion bash)"          in ~/.bashrc
        eval "$(sapwood completion zsh)"           in ~/.zshrc, after compinit
        sapwood completion fish | source           in ~/.config/fish/config.fish
        """,
    ),
}
