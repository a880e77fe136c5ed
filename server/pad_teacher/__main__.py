"""``python -m pad_teacher`` is ``pad-teacher``."""

import sys

from pad_teacher.cli import main

sys.exit(main())
