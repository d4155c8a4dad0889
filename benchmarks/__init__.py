"""`make bench`: the figures, each beside its peer, on linux-source-6.1.

A claim has a file in `claims`; `measure` times, `corpus` makes the input, `machine` says on what, `page` writes
docs/benchmarks.md and the table in README.md. `link` is the slow link that the demo goes over.

Rule: a ratio is one of medians of runs that took turns in one and the same call, never of two evenings.
"""
