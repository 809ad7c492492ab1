"""The command line with a child from a warm process: `python warmaudit.py COMMAND_OF_THE_CHILD ARGUMENTS...`, the
former as a JSON list (see warmstart.py)."""

from __future__ import annotations

import json
import sys

from auditor import cli, supervisor

if __name__ == "__main__":
    command = json.loads(sys.argv[1])
    supervisor.child_command = lambda: command
    cli.main(sys.argv[2:])
