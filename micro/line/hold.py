"""A run's folder: who may work in it, and what of earlier runs lies there."""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from micro.errors import RunRefused
from micro.line import LABELS_NAME, LEDGER_NAME, RECORD_NAME, REPORT_NAME
from micro.line.labels import is_inside

LOCK_NAME = ".run.lock"
OUTPUTS = (RECORD_NAME, REPORT_NAME, "images.csv", "images.parquet", "regions.csv", "regions.parquet")
REMEDY = "Pass --overwrite to throw those results away, or give another --out."
# A file that is being written is called so, and stays behind when its writer is killed.
DRAFTS = ".*.part"
DRAFT_AGE_S = 3600.0


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep the run's folder to this process, as long as it lives; raise RunRefused when another one has it.

    The lock is SQLite's own, which works alike on all systems and ends with the process, however it ends.
    """
    lock = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(folder / LOCK_NAME, timeout=0, isolation_level=None, check_same_thread=False)
        lock.execute("BEGIN EXCLUSIVE")
    except (OSError, sqlite3.Error) as fault:
        if lock is not None:
            lock.close()
        if isinstance(fault, sqlite3.Error) and fault.sqlite_errorname == "SQLITE_BUSY":
            raise RunRefused(
                f"{folder}: {_holder(folder)} is working in this folder. Wait for it, end it, or give another --out."
            ) from fault
        raise RunRefused(f"{folder}: results cannot be written there ({fault}). Give another --out.") from fault
    try:
        yield
    finally:
        lock.close()


def refuse_strangers(folder: Path) -> None:
    """Raise RunRefused when the folder holds files that a run would overwrite, and no ledger."""
    strangers = [name for name in (LABELS_NAME, *OUTPUTS) if (folder / name).exists()]
    if strangers and not (folder / LEDGER_NAME).exists():
        raise RunRefused(f"{folder}: holds {', '.join(strangers)}, and no ledger says who made that. {REMEDY}")


def clear(folder: Path) -> None:
    """Remove the results of earlier runs, and only these; whoever calls this holds the folder."""
    path = folder / LEDGER_NAME
    if path.exists():
        try:
            with closing(sqlite3.connect(path)) as ledger:
                rows = ledger.execute("SELECT labels FROM images WHERE labels IS NOT NULL").fetchall()
        except sqlite3.Error:
            rows = []  # not a ledger, or a broken one: whose label files lie here is unknown, and they stay
        remove_labels(folder, (labels for (labels,) in rows))
    for name in (*OUTPUTS, LEDGER_NAME, f"{LEDGER_NAME}-wal", f"{LEDGER_NAME}-shm"):
        (folder / name).unlink(missing_ok=True)


def remove_labels(folder: Path, files: Iterable[str]) -> None:
    """Remove label files that a ledger names, where they lie in the folder."""
    for file in files:
        if is_inside(file):
            (folder / file).unlink(missing_ok=True)


def sweep(folder: Path, *, is_mine: bool) -> None:
    """Remove what killed runs left half written.

    is_mine: nobody else works in the folder; otherwise only drafts go that nobody can be at work on any more.
    """
    newest = time.time() - (0 if is_mine else DRAFT_AGE_S)
    for place in (folder.glob(DRAFTS), (folder / LABELS_NAME).rglob(DRAFTS)):
        for draft in place:
            if draft.stat().st_mtime <= newest:
                draft.unlink(missing_ok=True)


def _holder(folder: Path) -> str:
    """Name the process that last began to work in a folder."""
    try:
        with closing(sqlite3.connect(f"{(folder / LEDGER_NAME).absolute().as_uri()}?mode=ro", uri=True)) as ledger:
            query = "SELECT pid, host, started FROM runs ORDER BY id DESC LIMIT 1"
            pid, host, started = ledger.execute(query).fetchone()
    except (sqlite3.Error, TypeError):
        return "another process"
    return f"process {pid} on {host} (since {started})"
