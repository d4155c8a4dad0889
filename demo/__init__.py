"""`make demo`: sapwood's main job on real input, told as two tables.

`environment` makes the input, `__main__` tells the story, `watch` measures a command, `report.py` is the program that
is run. Everything lies in build/demo; nothing is left mounted or running.
"""
