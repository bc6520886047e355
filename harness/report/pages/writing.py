"""Writing a page, a table or a figure: whole or not at all, and a refusal in words."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError
from harness.store.writer import atomically


def write_page(page: Path, content: str | bytes, option: str = "--reports") -> Path:
    """Write a file, making its folder, and return its path.

    Args:
        page: the file.
        content: text is stored as UTF-8.
        option: of the command line, with which another place is chosen.

    Raises:
        UserError: the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        atomically(page, lambda file: file.write(data))
    except OSError as error:
        raise UserError(f"{page} cannot be written: {error.strerror}; choose another place with {option}") from None
    return page
