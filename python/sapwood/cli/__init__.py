"""The command line: `sapwood COMMAND …`; entry point `sapwood.cli.main:run`.

Promise: stdout is data, stderr is talk; a mistake of the user's ends in one line and a hint, never in a traceback; the
exit code says what kind of thing went wrong (docs/cli.md). Only the module of the command that runs is imported.
Not here: any work. Each command parses, calls the Python API and shows what came back.
"""
