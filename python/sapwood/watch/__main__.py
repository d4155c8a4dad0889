"""The process of one watcher; started by `sapwood.watch.process`, not by people."""

import sys

from sapwood.watch.process import main

sys.exit(main(sys.argv[1:]))
