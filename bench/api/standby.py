"""Makes a streaming standby of an embedded server, for benches and tests."""

from pathlib import Path

from app.db.embedded import EmbeddedServer
from app.db.embedded.place import PORT, chown_to_server, find_place, run_tool


def make(primary: EmbeddedServer, home: Path) -> None:
    """Make a standby in `home` with pg_basebackup; `embedded.running` runs it.

    Raises:
        RuntimeError: pg_basebackup fails.
    """
    place = find_place(home)
    place.data.mkdir(mode=0o700)
    chown_to_server(place, place.data)
    connection = ("--host", str(primary.socket_dir), "--port", str(PORT), "--username", "postgres")
    options = ("--checkpoint=fast", "--wal-method=stream", "--no-sync", "--write-recovery-conf")
    made = run_tool(place, "pg_basebackup", *connection, *options, f"--pgdata={place.data}")
    if made.returncode:
        raise RuntimeError(f"cannot make a standby: {made.stderr}")
