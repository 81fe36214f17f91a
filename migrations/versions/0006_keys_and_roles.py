"""The service: API keys, idempotency keys, database roles."""

from collections.abc import Sequence

from alembic import op

from migrations.sources import drop, load, refuse_loss, use_schema_path

revision: str = "0006"
down_revision: str = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None
# The oldest code that goes on working while this revision runs and after it; see docs/operations.md, Upgrades.
serves: str = "0005"

TABLES = """
CREATE TABLE lookalike.api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT api_keys_pkey PRIMARY KEY,
    name text NOT NULL CONSTRAINT api_keys_name_check CHECK (name <> ''),
    prefix text NOT NULL,
    secret_sha256 bytea NOT NULL
        CONSTRAINT api_keys_secret_sha256_check CHECK (octet_length(secret_sha256) = 32),
    scope text NOT NULL CONSTRAINT api_keys_scope_check CHECK (scope IN ('search', 'write', 'admin')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE UNIQUE INDEX api_keys_name_key ON lookalike.api_keys (name) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_prefix ON lookalike.api_keys (prefix);
COMMENT ON TABLE lookalike.api_keys IS 'Keys of the HTTP API; see lookalike key.';
COMMENT ON COLUMN lookalike.api_keys.prefix IS 'What a key begins with, to recognise it by';
COMMENT ON COLUMN lookalike.api_keys.secret_sha256 IS 'Of the whole key, which is 256 random bits and stored nowhere';

CREATE TABLE lookalike.api_answers (
    caller text NOT NULL,
    idempotency_key text NOT NULL,
    request_sha256 bytea NOT NULL,
    status smallint NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    answered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT api_answers_pkey PRIMARY KEY (caller, idempotency_key)
);
CREATE INDEX api_answers_answered_at ON lookalike.api_answers (answered_at);
COMMENT ON TABLE lookalike.api_answers IS
    'Answers to writes that came with an Idempotency-Key, for 24 hours; a cache, not a record.';
COMMENT ON COLUMN lookalike.api_answers.caller IS 'The API key''s id; empty where none was asked for';
"""

NEW: tuple[str, ...] = (
    "views/roles_check.sql",
    "functions/create_roles.sql",
    "functions/list_images.sql",
    "functions/grant_privileges.sql",
    "functions/grant_space.sql",
    "triggers/embedding_spaces_grant_space.sql",
)
CHANGED: tuple[str, ...] = ()
SOURCES = NEW + CHANGED

# What is granted here goes. A role goes too, where no other database's objects and no other role hang on it, and
# where this user may drop it.
REVOKE = """
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN SELECT c.role FROM lookalike.roles_check c WHERE c.present LOOP
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA lookalike FROM %I', grantee);
        EXECUTE format('REVOKE ALL ON SCHEMA lookalike FROM %I', grantee);
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_auth_members m
            WHERE m.roleid = grantee::regrole AND m.member <> current_user::regrole OR m.member = grantee::regrole);
        BEGIN
            EXECUTE format('DROP ROLE %I', grantee);
        EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege OR object_in_use THEN
            RAISE NOTICE 'role % stays: %', grantee, SQLERRM;
        END;
    END LOOP;
END
$$
"""


def upgrade() -> None:
    use_schema_path()
    op.execute(TABLES)
    load(revision, *SOURCES)
    op.execute("SELECT lookalike.create_roles()")
    op.execute("SELECT lookalike.grant_privileges()")


def downgrade() -> None:
    use_schema_path()
    refuse_loss(api_keys="API keys")
    op.execute(REVOKE)
    drop(*reversed(NEW))
    load(down_revision, *CHANGED)
    op.drop_table("api_answers", schema="lookalike")
    op.drop_table("api_keys", schema="lookalike")
