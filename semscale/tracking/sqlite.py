"""Addresses of SQLite databases: made from a path, and the path found in one; MLflow is not needed for it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from semscale.errors import SemscaleError


def sqlite_uri(file: Path) -> str:
    """Return the address of a database file; SemscaleError for a path that the address of a database cannot say.

    >>> sqlite_uri(Path("/runs/mlflow.db")), database_file(sqlite_uri(Path("/what?/a%20b.db")))
    ('sqlite:////runs/mlflow.db', PosixPath('/what?/a%20b.db'))
    """
    # with a driver in the address MLflow makes no folder of the name as it is quoted
    for uri in (f"sqlite:///{file}", f"sqlite+pysqlite:///{quote(str(file))}"):
        if make_url(uri).database == str(file):
            return uri
    hint = "choose a folder without these characters, or an MLflow server with --tracking-uri"
    raise SemscaleError("no database can be made in a folder of this name", where=str(file), found="? or %", hint=hint)


def database_file(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for an address of anything else.

    >>> database_file("sqlite:///x.db?timeout=60"), database_file("sqlite://"), database_file("http://host:5000")
    (PosixPath('x.db'), None, None)
    """
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        return None
    is_file = url.drivername.startswith("sqlite") and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file and "uri" not in url.query else None
