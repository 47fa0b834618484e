"""A temporary PostgreSQL server from the system's packages, which tests can stop and start."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PLACES = ":".join(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))


class Postgres:
    """A cluster in a temporary folder, on a free port of the loopback address."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries = folder, binaries
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run(
            "initdb", "-U", "palate", "-A", "trust", "-E", "UTF8", "--no-sync", "-D", self.folder / "data"
        )

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off"
        data, log = self.folder / "data", self.folder / "log"
        self._run("pg_ctl", "start", "-w", "-D", data, "-l", log, "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self.folder / "data")

    def new_database(self, name: str, encoding: str = "UTF8") -> str:
        self._run("createdb", *self._address, "-E", encoding, "-l", "C", "-T", "template0", name)
        return f"postgresql://palate@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def database_in(self, place: Path, name: str) -> Iterator[str]:
        """Create a database whose tablespace is in a given folder, during the block."""
        if os.geteuid() == 0:
            shutil.chown(place, "postgres")
        self._do(f"CREATE TABLESPACE {name} LOCATION '{place}'")
        self._do(f"CREATE DATABASE {name} TABLESPACE {name}")
        try:
            yield f"postgresql://palate@127.0.0.1:{self.port}/{name}"
        finally:
            self._do(f"DROP DATABASE {name} WITH (FORCE)")
            self._do(f"DROP TABLESPACE {name}")

    def _do(self, sql: str) -> None:
        self._run("psql", *self._address, "-d", "postgres", "-c", sql)

    @property
    def _address(self) -> tuple[str, ...]:
        return "-h", "127.0.0.1", "-p", str(self.port), "-U", "palate"

    def _run(self, program, *arguments):
        command = [str(one) for one in (self.binaries / program, *arguments)]
        account = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        subprocess.run(command, check=True, user=account, cwd=self.folder, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def postgres():
    """Yield a running server; skips the test if PostgreSQL is not installed."""
    found = shutil.which("initdb", path=f"{PLACES}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("PostgreSQL is not installed: no initdb; apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="palate-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    server = Postgres(folder, Path(found).parent)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)
