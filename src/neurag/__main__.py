"""`python -m neurag` is the same as `neurag`."""

import sys

from neurag.app.cli import main

sys.exit(main())
