"""Plain SQL is complete and in order after migration; who may not store the settings is told who must."""

from collections.abc import Callable

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app import db
from app.db import schema
from tests.support.gallery_data import distances, fill, half, index, make_space, unit

COUNT = 6000


def stored(url: str) -> dict[str, str]:
    """The settings that are stored for the database."""
    with psycopg.connect(url) as conn:
        rows = conn.execute(
            "SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
            " WHERE d.datname = current_database() AND s.setrole = 0"
        ).fetchall()
    return dict(row[0].split("=", 1) for row in rows)


def checked(url: str) -> dict[str, tuple[str | None, bool]]:
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT setting, value, ok FROM lookalike.settings_check").fetchall()
    return {row[0]: (row[1], row[2]) for row in rows}


@pytest.fixture(scope="module")
def migrated(new_database: Callable[..., str]) -> str:
    """A database migrated itself: a clone of the template would lack the settings."""
    url = new_database()
    schema.upgrade(url)
    return url


@pytest.mark.parametrize("share", [1.0, 0.1, 0.03])
def test_plain_filtered_query_returns_a_hundred_rows_in_right_order(migrated: str, share: float) -> None:
    vectors = unit(COUNT, 8)
    with db.connect(migrated) as conn:
        make_space(conn, 8)
        attributes = [{"n": n} for n in np.random.default_rng(1).permutation(COUNT).tolist()]
        fill(conn, vectors, attributes)
        index(conn)
        for query in vectors[:10]:
            rows = conn.execute(
                "SELECT (attributes->>'n')::int, embedding <-> %(q)s FROM lookalike.gallery"
                " WHERE (attributes->>'n')::int < %(below)s ORDER BY embedding <-> %(q)s LIMIT 100",
                {"q": half(query), "below": COUNT * share},
            ).fetchall()
            assert len(rows) == 100
            found = [row[1] for row in rows]
            assert found == sorted(found)
            passing = vectors[[one["n"] < COUNT * share for one in attributes]]
            kth = np.sort(distances(passing, query))[99]
            assert np.mean(np.array(found) <= kth + 1e-3) >= 0.97
        conn.execute("SET LOCAL enable_seqscan = off")
        plan = conn.execute(
            "EXPLAIN SELECT id FROM lookalike.gallery WHERE (attributes->>'n')::int < 600"
            " ORDER BY embedding <-> %s LIMIT 100",
            (half(vectors[0]),),
        ).fetchall()
        assert "_embedding_idx" in str(plan)
        conn.rollback()


def test_settings_hold_in_new_sessions_and_go_with_the_downgrade(new_database: Callable[..., str]) -> None:
    url = new_database()
    name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
    schema.upgrade(url, "0001")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS vector")
        conn.execute("SELECT '[1]'::halfvec")
        conn.execute(sql.SQL("ALTER DATABASE {} SET hnsw.ef_search = 333").format(name))
        conn.execute(sql.SQL("ALTER DATABASE {} SET work_mem = '5MB'").format(name))
    schema.upgrade(url)
    assert all(ok for _, ok in checked(url).values())
    assert checked(url)["hnsw.ef_search"] == ("333", True)  # the owner's own choice stays
    assert len(stored(url)) == 5
    schema.downgrade(url, "0001")
    assert stored(url) == {"hnsw.ef_search": "333", "work_mem": "5MB"}


def test_a_role_that_may_not_is_warned_and_the_remedy_works(new_database: Callable[..., str]) -> None:
    url = new_database()
    schema.upgrade(url, "0001")
    schema.upgrade(url)
    name = str(conninfo_to_dict(url)["dbname"])
    said: list[str] = []
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))
        conn.execute("DROP ROLE IF EXISTS guest")
        conn.execute("CREATE ROLE guest")
        try:
            conn.execute("GRANT USAGE ON SCHEMA lookalike TO guest")
            conn.execute("GRANT SELECT ON lookalike.settings_check TO guest")
            conn.execute("SET ROLE guest")
            conn.add_notice_handler(lambda one: said.append(f"{one.message_primary} {one.message_hint}"))
            assert conn.execute("SELECT lookalike.tune_database()").fetchall() == []
            assert "role guest may not set defaults" in said[0]
            assert "SELECT lookalike.tune_database()" in said[0]
            conn.execute("RESET ROLE")
            found = checked(url)
            assert found["hnsw.iterative_scan"] == ("off", False)
            assert found["hnsw.ef_search"] == ("40", False)
            # The owner need not be superuser.
            conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO guest").format(sql.Identifier(name)))
            with psycopg.connect(url, autocommit=True) as owner:
                owner.execute("SET ROLE guest")
                remedies = owner.execute("SELECT remedy FROM lookalike.settings_check WHERE NOT ok").fetchall()
                assert len(remedies) == 4
                for remedy in remedies:
                    owner.execute(remedy[0])
            assert all(ok for _, ok in checked(url).values())
        finally:
            conn.execute("RESET ROLE")
            conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(name)))
            conn.execute("DROP OWNED BY guest")
            conn.execute("DROP ROLE guest")


def test_an_odd_database_name_is_quoted(server, new_database: Callable[..., str]) -> None:
    url = new_database()
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute('CREATE DATABASE "Odd ""name"" 1"')
    try:
        odd = make_conninfo(url, dbname='Odd "name" 1')
        schema.upgrade(odd)
        assert all(ok for _, ok in checked(odd).values())
    finally:
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute('DROP DATABASE "Odd ""name"" 1" WITH (FORCE)')
