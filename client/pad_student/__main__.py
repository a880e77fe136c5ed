"""``python -m pad_student``: the pad-student command."""

from pad_student.commands.entry import main

raise SystemExit(main())
