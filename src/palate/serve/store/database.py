"""The database of the user store: connections, migrations and error conversion."""

from __future__ import annotations

import itertools
import math
import os
import selectors
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from palate.errors import DataError, OutputError, StoreError, StoreFullError
from palate.system.locks import locked

PATIENCE = 10
"""Timeout of locks and connections, in seconds."""
AGAIN = 0.001
"""Interval at which SQLite's write lock is tried, in seconds; SQLite's own handler waits for up to 0.1."""
MIGRATION_LOCK = 0x70616C617465
"""Key of PostgreSQL's advisory lock for migrations: "palate" in hexadecimal."""
FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "53100"}
"""Error codes of SQLite and PostgreSQL for a full disk; SQLite reports an exceeded quota as a failed write only."""
_SAID = {
    "database or disk is full": "SQLITE_FULL",
    "file is not a database": "SQLITE_NOTADB",
    "database is locked": "SQLITE_BUSY",
}
"""Error codes by message, for Python 3.10, whose sqlite3 has no error names."""
_WRITES = "palate_writes"
_LOGGED = "palate_logged"
_USED = "palate_used"
_flush = getattr(os, "fdatasync", os.fsync)
IDLE = 1.0
"""Time after which an unused connection to PostgreSQL is checked by a round trip before its next use, in seconds."""


class Database:
    """Transactions on an SQLite (in WAL mode) or PostgreSQL database; its schema is migrated on opening.

    Args:
        store: Path of an SQLite file, or a database URL.

    Raises:
        DataError: The URL names another kind of database; or the database has another encoding than UTF-8, holds other
            tables, or was written by a newer palate.
    """

    def __init__(self, store: Path | str) -> None:
        self.url = store_url(store)
        self.name = self.url.render_as_string(hide_password=True)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._writer = threading.Lock()
        self._scrubbing, self._tickets, self._scrubbed = threading.Lock(), itertools.count(1), 0
        self._scrub_after = 0.0
        self.full = False  # whether the last write failed for a full disk
        self._inode: int | None = None
        self._file = os.path.realpath(
            self.url.database or ""
        )  # SQLite's log stands beside it, not beside a link
        self.engine = _engine(self.url)
        with self._creation_lock(), self._converting_errors():
            self._migrate()
        self._inode = _inode(self.url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read transaction with a consistent snapshot."""
        with self._converting_errors(), self.engine.connect() as connection:
            if not self.sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self, durable: bool = True, pipelined: bool = False) -> Iterator[Connection]:
        """Open a write transaction, committed at the end of the block or rolled back.

        Args:
            durable: Whether the commit is flushed to disk; without it a power failure may undo it, which is
                acceptable for cached data.
            pipelined: Whether PostgreSQL gets statements without waiting for the results of those before, up to the
                first result that is read. SQLAlchemy reads none then: use the driver's cursors for queries.
        """
        self.check_file()
        with self._converting_errors(), self._write_lock(), self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with (
                _pipeline(connection) if pipelined and not self.sqlite else nullcontext(),
                connection.begin(),
            ):
                if not self.sqlite and not durable:
                    connection.execute(text("SET LOCAL synchronous_commit = off"))
                yield connection
            self.full = False
            logged = connection.info.get(_LOGGED)
        if durable and logged:
            self._flush_log()

    def will_scrub(self, connection: Connection) -> None:
        """Mark SQLite's file for scrubbing, within a transaction that deletes data; survives a crash."""
        if self.sqlite:
            noted = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            connection.exec_driver_sql(f"PRAGMA user_version = {noted % 1_000_000 + 1}")

    def scrub(self) -> None:
        """Remove deleted data from SQLite's files if they are marked for it; concurrent calls share the work.

        SQLite overwrites deleted rows, but copies remain in unused space of pages between which it has moved rows.
        Therefore the file is rewritten by VACUUM, and its write-ahead log truncated.

        Rewriting a large file is slow. To leave time for other writes, the next round starts after a pause of three
        times the last round, at most :data:`PATIENCE`.

        Raises:
            StoreError: Readers block the truncation of the log for too long.
        """
        if not self.sqlite or not self._to_scrub():
            return
        ticket = next(self._tickets)
        with self._scrubbing:
            if ticket > self._scrubbed:
                time.sleep(max(self._scrub_after - time.monotonic(), 0))
                latest, began = next(self._tickets), time.monotonic()
                self._rewrite()
                self._scrubbed, ended = latest, time.monotonic()
                self._scrub_after = ended + min(3 * (ended - began), PATIENCE)

    def _to_scrub(self) -> int:
        """Return the number of deletions since the last scrubbing, which is kept in SQLite's user_version."""
        with self.reading() as connection:
            return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def _rewrite(self) -> None:
        with self._converting_errors(), self._write_lock(), self.engine.connect() as connection:
            cursor = connection.connection.cursor()
            (noted,) = cursor.execute("PRAGMA user_version").fetchone()
            cursor.execute("VACUUM")
            cursor.close()
        self._truncate_log()
        with self.writing() as connection:
            if connection.exec_driver_sql("PRAGMA user_version").scalar_one() == noted:
                connection.exec_driver_sql(
                    "PRAGMA user_version = 0"
                )  # else another process has deleted meanwhile
        self._truncate_log()

    def _truncate_log(self) -> None:
        with self._converting_errors(), self._write_lock(), self.engine.connect() as connection:
            cursor = connection.connection.cursor()
            busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            cursor.close()
        if busy:
            raise StoreError(f"{self.name}: the write-ahead log is in use by readers; repeat the request")

    def _flush_log(self) -> None:
        """Flush SQLite's write-ahead log, which makes all transactions committed so far durable.

        SQLite would flush within the transaction, and let all other writers wait for that.
        """
        try:
            log = os.open(f"{self._file}-wal", os.O_RDWR)
            try:
                _flush(log)
            finally:
                os.close(log)
        except OSError as error:
            raise StoreError(
                f"{self.name}: the write-ahead log cannot be flushed ({error.strerror}), so that a power failure may "
                "undo what was written; check the disk, and repeat the request"
            ) from error

    def check_file(self) -> None:
        """Raise :class:`StoreError` if SQLite's file was replaced since it was opened, as writes would be lost."""
        if self.sqlite and self._inode not in (None, _inode(self.url)):
            raise StoreError(f"{self.name}: the file was moved or replaced; restart the server")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _creation_lock(self) -> Iterator[None]:
        """Lock the creation of an SQLite file across processes, as the switch to WAL mode does not wait for locks."""
        if not self.sqlite:
            yield
            return
        path = Path(self.url.database or "")
        if not path.parent.is_dir():
            raise DataError("the store cannot be created (no such folder); create its folder first", path)
        try:
            with locked(path, wait=True):
                _make_private(path)
                yield
        except OutputError as error:
            raise DataError(
                f"the store cannot be created ({error}); name a file in a writable folder", path
            ) from error

    @contextmanager
    def _write_lock(self) -> Iterator[None]:
        """Serialise the writers of this process by a lock, as SQLite's busy handler is not fair."""
        if not self.sqlite:
            yield
        elif not self._writer.acquire(timeout=PATIENCE):
            raise StoreError(f"{self.name}: another write has taken longer than {PATIENCE} s; try again")
        else:
            try:
                yield
            finally:
                self._writer.release()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        with self.writing() as connection:
            if not self.sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
                self._check_encoding(connection)
            found = MigrationContext.configure(connection).get_current_revision()
            if found is None and (tables := inspect(connection).get_table_names()):
                raise DataError(
                    f"the database holds other tables ({', '.join(sorted(tables)[:3])}); name an empty one",
                    self.name,
                )
            if found == ScriptDirectory.from_config(config).get_current_head():
                return
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise DataError(
                    f"the store has schema version {found!r}, which this version of palate does not know; "
                    "use the version that wrote it, or a newer one",
                    self.name,
                ) from error

    def _check_encoding(self, connection: Connection) -> None:
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise DataError(
                f"the database's encoding is {encoding}, in which not every id and text can be stored, expected UTF8; "
                "create another one with  createdb -E UTF8 -T template0 NAME",
                self.name,
            )

    @contextmanager
    def _converting_errors(self) -> Iterator[None]:
        """Convert driver errors to :class:`StoreError` and :class:`DataError`."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, (DBAPIError, PoolTimeoutError, sqlite3.Error, *_driver_errors())):
                raise
            cause = getattr(error, "orig", error)
            code = error_code(error)
            if code in FULL:
                self.full = True
                raise StoreFullError(
                    f"{self.name}: the disk is full; free space and repeat the request"
                ) from error
            if code == "SQLITE_NOTADB":
                raise DataError("not an SQLite database; name another file", self.name) from error
            if _is_transient(error, code):
                reason = " ".join(str(cause).split())[:200]
                raise StoreError(f"{self.name} is not available now ({reason}); try again") from error
            raise


def _pipeline(connection: Connection) -> AbstractContextManager[Any]:
    """Put a connection to PostgreSQL into pipeline mode, if libpq has it (from version 14)."""
    from psycopg import Pipeline

    driver: Any = connection.connection.driver_connection
    return driver.pipeline() if Pipeline.is_supported() else nullcontext()


def _driver_errors() -> tuple[type[BaseException], ...]:
    """Return the class of PostgreSQL's driver's errors, which SQLAlchemy does not wrap in pipeline mode."""
    driver = sys.modules.get("psycopg")
    return () if driver is None else (driver.Error,)


def error_code(error: Exception) -> str | None:
    """Return SQLite's or PostgreSQL's code of a driver error; None without one."""
    cause = getattr(error, "orig", error)
    named = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return named or _SAID.get(str(cause))


def store_url(store: Path | str) -> URL:
    """Parse a database URL, or the path of an SQLite file.

    Raises:
        DataError: The URL is neither of SQLite nor of PostgreSQL.
    """
    written = str(store)
    if "://" not in written:
        return URL.create("sqlite", database=str(Path(written)))
    try:
        url = make_url(written)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        backend = None
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return url.set(drivername="sqlite")
    raise DataError(
        "invalid store, expected the path of an SQLite file, sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    )


def _inode(url: URL) -> int | None:
    try:
        return Path(url.database or "").stat().st_ino
    except OSError:
        return None


def _make_private(path: Path) -> None:
    """Create a new SQLite file that only its owner can access; its log inherits the permissions."""
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise DataError(
            f"the store cannot be created ({error.strerror}); name a file in a writable folder", path
        ) from error


def _is_transient(error: Exception, code: str | None) -> bool:
    """Return whether an error is transient: the database is unavailable or busy, and the query valid."""
    return (
        isinstance(error, PoolTimeoutError)
        or getattr(error, "connection_invalidated", False)
        or type(error).__name__ in ("OperationalError", "InterfaceError")
        or (code or "")[:2] in ("08", "40", "53", "55", "57")
    )


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        # query parameters hold user data, which must not reach error messages and logs
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=8,
            max_overflow=32,
            pool_timeout=PATIENCE,
            connect_args={"connect_timeout": PATIENCE, "client_encoding": "utf8"},
        )
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", partial(_check_idle, engine))
        return engine
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=8,
        max_overflow=32,
        pool_timeout=PATIENCE,
        # transactions are started by _begin_sqlite; sqlite3's default takes the write lock only at the first write
        connect_args={"timeout": PATIENCE, "isolation_level": None},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _note_use(_connection: Any, record: Any) -> None:
    record.info[_USED] = time.monotonic()


def _check_idle(engine: Engine, connection: Any, record: Any, _proxy: Any) -> None:
    """Have a connection replaced that was closed since its last use; a check each time would be a round trip more."""
    if time.monotonic() - record.info.get(_USED, math.inf) < IDLE and not _has_news(connection):
        return
    try:
        engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error as error:
        raise DisconnectionError from error


def _has_news(connection: Any) -> bool:
    """Return whether an idle connection has received something, such as the server's goodbye."""
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(connection.fileno(), selectors.EVENT_READ)
            return bool(ready.select(0))
    except (OSError, ValueError, sys.modules["psycopg"].Error):  # closed on this side
        return True


def _prepare_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    (mode,) = cursor.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        (mode,) = cursor.execute("PRAGMA journal_mode = WAL").fetchone()
    record.info[_LOGGED] = mode == "wal"  # not on file systems without shared memory
    synchronous = "NORMAL" if record.info[_LOGGED] else "FULL"  # Database.writing flushes the log
    for pragma in ("foreign_keys = ON", "secure_delete = ON", f"synchronous = {synchronous}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        _begin_writing(connection)
    else:
        connection.exec_driver_sql("BEGIN")


def _begin_writing(connection: Connection) -> None:
    """Begin a write transaction of SQLite, waiting for other processes' transactions."""
    cursor, deadline = connection.connection.cursor(), time.monotonic() + PATIENCE
    cursor.execute("PRAGMA busy_timeout = 0")
    try:
        while not _begun(cursor, last=time.monotonic() > deadline):
            time.sleep(AGAIN)
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {1000 * PATIENCE}")
        cursor.close()


def _begun(cursor: Any, last: bool) -> bool:
    """Try to begin a write transaction; returns whether it did, and with ``last`` raises the error instead."""
    try:
        cursor.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if last or not (error_code(error) or "").startswith("SQLITE_BUSY"):
            raise
        return False
    return True
