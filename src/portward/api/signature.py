"""Whether a file is still the one that was read; for files that are taken up anew while the API runs."""

from pathlib import Path

Signature = tuple[int, ...]


def signature(file: Path) -> Signature:
    """Another one when ``file`` was replaced, written to, or given other permissions; empty without a file."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode
