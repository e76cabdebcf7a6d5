"""The tables of a ledger, and the ways to the databases that can hold one."""

import errno
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.compiler import SQLCompiler

from micro.errors import RunRefused
from micro.line import LEDGER_NAME

QUEUED, RUNNING, DONE, QUARANTINED = "queued", "running", "done", "quarantined"

# How long SQLite waits for others who write.
PATIENCE_S = 60.0

metadata = sa.MetaData()

# Both databases are to sort names alike: by their bytes.
_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# One row a process that works or has worked. alive_until: when its claims expire unless it says that it lives; seconds
# since 1970 by the database's clock. place: machine and process namespace within which its pid means something.
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("recipe", sa.JSON, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("weights_sha256", sa.Text, nullable=False),
    sa.Column("micro_version", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("out", sa.Text, nullable=False),
    sa.Column("started", sa.Text, nullable=False),
    sa.Column("alive_until", sa.Float(53), nullable=False),
)

# One row an image, which is a name and the bytes under it. run_id: who works or worked on it. address: where its bytes
# lie. stamp: what the file system said of the file that was read, so that an unchanged one need not be read again.
# stored: when its result was, or when a file that had held other bytes or lain elsewhere was found to hold these.
# labels: the label file, relative to the run's folder. columns: the measures in their order, each with its kind, so
# that the wide tables need not look at every region to know their head.
images = sa.Table(
    "images",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.ForeignKey("runs.id")),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("stamp", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("stored", sa.Text),
    sa.Column("sha256", sa.Text),
    sa.Column("height_px", sa.Integer),
    sa.Column("width_px", sa.Integer),
    sa.Column("pixel_size_um", sa.Float(53)),
    sa.Column("pixel_size_source", sa.Text),
    sa.Column("class", sa.Text),
    sa.Column("score", sa.Float(53)),
    sa.Column("class_scores", sa.JSON(none_as_null=True)),
    sa.Column("verdict", sa.Text),
    sa.Column("n_regions", sa.Integer),
    sa.Column("seconds", sa.Float(53)),
    sa.Column("labels", sa.Text, unique=True),
    sa.Column("columns", sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")),
    sa.Column("notes", sa.JSON(none_as_null=True)),
    sa.Column("model", sa.Text),
    sa.Column("model_version", sa.Text),
    sa.Column("weights_sha256", sa.Text),
    sa.Column("error", sa.Text),
    sa.UniqueConstraint("name", "sha256"),
)
_is_open = images.c.state.in_((QUEUED, RUNNING))
sa.Index("images_open", images.c.name, unique=True, sqlite_where=_is_open, postgresql_where=_is_open)

regions = sa.Table(
    "regions",
    metadata,
    sa.Column("image_id", sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("class", sa.Text, nullable=False),
    sa.Column("score", sa.Float(53)),
    sa.Column("columns", sa.JSON, nullable=False),
)

# What heals without anybody touching the image: space is made, a drive or a server comes back. 08 connection, 40
# rolled back, 53 resources, 57 operator, 58 system: classes of SQLSTATE.
_PASSING_ERRNO = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.ESTALE),
    *(errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ECONNREFUSED),
    *(errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO),
}
_OUT_OF_REACH = ("SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_READONLY")
_PASSING_SQLSTATE = ("08", "40", "53", "57", "58")


def address(store: Path | str) -> sa.URL:
    """Return the address of the ledger of a run's folder, or of the database that an address names.

    Raises RunRefused when the address is none, or of a database that is not supported.
    """
    if isinstance(store, Path):
        return sa.URL.create("sqlite", database=str(store / LEDGER_NAME))
    try:
        url = sa.make_url(store)
    except (sa.exc.ArgumentError, ValueError) as fault:
        raise RunRefused(f"{store}: is no address of a database. {_OFFERED}") from fault
    if url.get_backend_name() != "postgresql":
        raise RunRefused(f"{url.render_as_string()}: is no PostgreSQL database. {_OFFERED}")
    return url


_OFFERED = "Write postgresql+pg8000://user:password@host/database, or leave --store out for a file in --out."


def connect(store: Path | str, *, writes: bool = False) -> sa.Engine:
    """Return the way to the ledger of a run's folder, or of a PostgreSQL database; nothing is opened yet.

    writes: begin each SQLite transaction as a writer, who waits for others; readers never wait.
    """
    url = address(store)
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": PATIENCE_S})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine
    # a server that does not answer at all is one that is away
    patience: dict[str, Any] = {"timeout": 30} if url.get_driver_name() == "pg8000" else {}
    try:
        return sa.create_engine(url, connect_args=patience)
    except (ImportError, sa.exc.NoSuchModuleError) as fault:
        raise RunRefused(f"{url.render_as_string()}: its driver is missing. pip install 'micro[postgres]'") from fault


def ledger_of(folder: Path, store: str | None, *, writes: bool = False) -> sa.Engine:
    """Return the way to the ledger of a run: the file in its folder, or else the database at the address `store`.

    Raises RunRefused where the folder holds none and no address is given.
    """
    if (folder / LEDGER_NAME).is_file():
        return connect(folder, writes=writes)
    if store is None:
        raise RunRefused(f"{folder}: no ledger lies there. Name the --out of a run, and its --store if it had one.")
    return connect(store, writes=writes)


@dataclass(frozen=True)
class Bulk:
    """A statement for many rows at once, compiled for one database: SQLAlchemy needs longer for a row than SQLite.

    names: of its parameters, in the order in which they are bound, or in any where the driver binds them by name.
    """

    words: str
    names: tuple[str, ...]
    is_positional: bool

    @classmethod
    def of(cls, statement: sa.Insert | sa.Update, dialect: sa.Dialect) -> Self:
        """Return a statement as a database takes it."""
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        return cls(compiled.string, tuple(compiled.positiontup or compiled.params), compiled.positiontup is not None)

    def run(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each row, which has plain values: those of JSON columns are texts, as `packed` makes them."""
        pick = itemgetter(*self.names)
        bound = [pick(row) if self.is_positional else dict(zip(self.names, pick(row), strict=True)) for row in rows]
        connection.exec_driver_sql(self.words, bound)


def packed(value: object) -> str | None:
    """Return a value as a JSON column keeps it; None is no value."""
    return None if value is None else json.dumps(value)


def create(connection: sa.Connection) -> None:
    """Make the tables that are not there yet; several processes may do so at the same moment."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(0x6D6963726F)))
    metadata.create_all(connection)


def now(connection: sa.Connection) -> sa.ColumnElement[float]:
    """Return the database's own clock, in seconds since 1970: workers on many machines share no other."""
    if connection.dialect.name == "postgresql":
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float(53))
    return (sa.func.julianday("now") - 2440587.5) * 86400.0


def is_passing(fault: BaseException) -> bool:
    """Whether a fault in storing may heal by itself: a full disk, a lost drive, folder right or database server."""
    if isinstance(fault, OSError):
        return fault.errno in _PASSING_ERRNO or fault.errno is None
    if not isinstance(fault, sa.exc.DBAPIError):
        return isinstance(fault, sa.exc.TimeoutError)
    if fault.connection_invalidated or isinstance(fault, sa.exc.OperationalError | sa.exc.InterfaceError):
        return True
    return _sqlstate(fault).startswith(_PASSING_SQLSTATE)


def is_out_of_reach(fault: sa.exc.DBAPIError) -> bool:
    """Whether a database cannot be opened, so that nobody knows what it holds: locked, away, or not for this user."""
    if name := getattr(fault.orig, "sqlite_errorname", None):
        return str(name).startswith(_OUT_OF_REACH)
    return not _sqlstate(fault).startswith("42")  # of words that fit no ledger's tables


def reason(fault: BaseException) -> str:
    """Return the words of whoever refused: the system or the database."""
    original = getattr(fault, "orig", None) or fault
    facts = original.args[0] if original.args else None
    if isinstance(facts, dict):  # as pg8000 hands on the server's words
        return str(facts.get("M", facts))
    return str(getattr(original, "strerror", None) or original)


def _sqlstate(fault: sa.exc.DBAPIError) -> str:
    facts = fault.orig.args[0] if fault.orig is not None and fault.orig.args else None
    code = facts.get("C") if isinstance(facts, dict) else getattr(fault.orig, "sqlstate", None)
    return str(code or "")


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    # WAL: readers never wait for the writer. NORMAL: a power cut may take the last results, never tear one; they are
    # made again by the next run.
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as fault:  # SQLite waits for no one else who is about to change the mode
            if fault.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > until:
                raise
            time.sleep(0.01)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
