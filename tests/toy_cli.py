"""`provado` with notes (tests/toy.py) for configuration backups: `python tests/toy_cli.py verify ...`."""

import toy

from harness.cli import main

toy.install()
main()
