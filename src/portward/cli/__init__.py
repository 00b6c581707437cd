"""The ``portward`` command."""


def main() -> None:
    """Entry point."""
