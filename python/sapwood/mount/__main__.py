"""The process of one mount; started by `sapwood.mount.process`, not by people."""

import sys

from sapwood.mount.process import main

sys.exit(main(sys.argv[1:]))
