"""`python -m sapwood`: the same as the command `sapwood`."""

import sys

from sapwood.cli.main import main

sys.exit(main())
