"""A PostgreSQL server of our own, on loopback, with its data in a temporary folder."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

PROGRAMS = (shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))))
USER, NOBODY = "micro", "nobody"


class Server:
    """A server that can be stopped and started again, and that gives a new database for the asking."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        self._databases = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # the server refuses to run as root
        self._user = NOBODY if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._run("initdb", "--auth=trust", f"--username={USER}", "--no-sync", "--encoding=UTF8")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        log = (self._folder / "log").open("ab")
        with log:
            subprocess.run(command, check=True, stdout=log, stderr=log, user=self._user, cwd="/")

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -h 127.0.0.1 -c fsync=off -c shared_buffers=16MB"
        self._run("pg_ctl", "start", "-w", "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def away(self, seconds: float) -> None:
        """Be gone for a while."""
        self.stop()
        time.sleep(seconds)
        self.start()

    def fresh(self) -> str:
        """Return the address of a new, empty database."""
        self._databases += 1
        name = f"line{self._databases}"
        engine = sa.create_engine(self.address("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.address(name)

    def address(self, database: str) -> str:
        return f"postgresql+pg8000://{USER}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A running server; the test is skipped where none is installed."""
    pytest.importorskip("pg8000", reason="the extra `postgres` is not installed")
    programs = next((Path(found).resolve().parent for found in PROGRAMS if found), None)
    if programs is None or sys.platform == "win32":
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="micro-postgres-") as folder:
        one = Server(Path(folder), programs)
        one.start()
        try:
            yield one
        finally:
            one.stop()
