"""A directory of journals: finding those whose processes are dead."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastcache.writing.errors import JournalError
from fastcache.writing.journal import Journal, sweep
from fastcache.writing.options import path_of
from fastcache.writing.salvage import sync_folder

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

log = logging.getLogger("fastcache")

#: Paths that were complained about already.
_told: set[str] = set()


def prepare(path: str | os.PathLike[str]) -> Path:
    """The directory, made if absent. JournalError: it cannot be used."""
    folder = Path(path_of("journal", path, "a directory")).absolute()
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in made:
            sync_folder(
                each.parent
            )  # or a loss of power may take the directory, with all that is in it
    except FileExistsError:
        raise JournalError(str(folder), "must be a directory, and is a file") from None
    except OSError as error:
        raise JournalError(str(folder), f"cannot be made: {error}") from error
    if not os.access(folder, os.W_OK | os.X_OK | os.R_OK):
        raise JournalError(str(folder), "is not writable")
    return folder


def journals(folder: Path) -> list[Path]:
    """All journals in it, by name."""
    return sorted(folder.glob("*.journal"))


def orphans(
    folder: Path, writer: str, durability: str, mine: Container[str], *, strict: bool
) -> Iterator[Journal]:
    """Adopt one after another the journals of dead processes of this writer, but for those in mine.

    Each is locked when it is yielded. strict: JournalError for the first that is not a journal, or of a newer
    version; otherwise that is logged, once.
    """
    sweep(folder)
    for path in journals(folder):
        if path.stem in mine:
            continue
        try:
            journal = Journal.adopt(path, durability)
            if journal is None:
                continue
            owner = journal.writer()
        except JournalError as error:
            if strict:
                raise
            _tell_once(path, "%s", error)
            continue
        if owner == writer:
            yield journal
            continue
        journal.close()
        _tell_once(path, "journal %s is left alone: its writer is %s, not %s", path, owner, writer)


def _tell_once(path: Path, message: str, *arguments: object) -> None:
    if str(path) not in _told:
        _told.add(str(path))
        log.warning(message, *arguments)
