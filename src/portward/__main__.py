"""``python -m portward``: the ``portward`` command."""

from portward.cli import main

main()
