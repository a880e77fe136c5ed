"""``python -m pad_student``: the pad-student command."""

from pad_student.commands.cli import main

raise SystemExit(main())
