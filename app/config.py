"""Every setting, declared once with name, default and help."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# In `home`: settings of this installation, which environment variables go before.
ENVIRONMENT_FILE = "settings.env"


class Settings(BaseSettings):
    """Settings, read from the environment variables `LOOKALIKE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="LOOKALIKE_", frozen=True, extra="ignore")

    database_url: str | None = Field(
        None,
        description="PostgreSQL to use, as postgresql://user:password@host:port/name. "
        "Unset: the embedded server in `home`.",
    )
    read_database_url: str | None = Field(
        None,
        description="Streaming standbys that searches may go to, several hosts as libpq lists them: "
        "postgresql://user@a,b/name?load_balance_hosts=random. Unset: the primary answers all.",
    )
    read_max_lag: float = Field(
        10, gt=0, description="Seconds behind the primary from which on a standby has no searches."
    )
    read_wait: float = Field(
        0.5,
        ge=0,
        description="Seconds that a search, which names a position of the WAL, waits for a standby to get there; then "
        "the primary answers it.",
    )
    home: Path = Field(
        Path(".lookalike"), description="Folder of the embedded server's data, its log and uploaded files."
    )
    storage_url: str | None = Field(
        None,
        description="Where uploaded images are stored: a folder or any fsspec URL (s3://bucket/prefix). "
        "Unset: `uploads` in `home`.",
    )
    model: str = Field(
        "tf_efficientnet_lite0", description="timm model of the first embedding space, which the first worker creates."
    )
    weights: str | None = Field(
        None, description="Local weight file of that model. Unset: a weight package, else timm's own download."
    )
    device: str | None = Field(None, description="torch device of a worker. Unset: cuda where there is one, else cpu.")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto",
        description="Type that a worker computes in: auto, fp32, tf32, bf16 or fp16. auto: a fast one that the "
        "hardware has and whose embeddings stay within cosine 0.999 of fp32's, else fp32.",
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=4096,
        description="Most images that a worker encodes at once. 0: measured at its start, the fewest that keep the "
        "device busy.",
    )
    compile: bool = Field(
        False,
        description="Have torch compile the model at a worker's start (`lookalike bench worker` says if it pays).",
    )
    cuda_graphs: bool = Field(False, description="Record full batches as a CUDA graph at a worker's start.")
    loader_threads: int = Field(0, ge=0, le=256, description="Threads that fetch and decode. 0: one a core.")
    query_share: int = Field(
        4, ge=1, description="Batches of query images in a row, while jobs wait as well: then come those of jobs."
    )
    job_share: int = Field(
        1, ge=1, description="Batches of jobs in a row, after those of query images, while these still wait."
    )
    active_share: int = Field(
        9,
        ge=0,
        description="Batches of the active space's jobs in a row, while jobs of other spaces wait as well: then comes "
        "one of theirs. 0: theirs wait until the active space has none.",
    )
    lease_seconds: float = Field(
        120, gt=0, description="A claimed job not finished by then is given to another worker."
    )
    max_attempts: int = Field(
        5, ge=1, description="Tries of an image with passing trouble before it is parked as failed."
    )
    index_min_rows: int = Field(
        500, ge=1, description="Embeddings from which on a space whose queue is drained gets its first HNSW index."
    )
    maintain: bool = Field(
        True,
        description="Whether idle workers rebuild indexes and vacuum where changes have left too much behind, as "
        "lookalike maintain does.",
    )
    max_image_bytes: int = Field(64 * 2**20, gt=0, description="Largest image file that is read, in bytes.")
    max_image_pixels: int = Field(100_000_000, gt=0, description="Largest image that is decoded, in pixels.")
    max_image_frames: int = Field(
        1000, ge=1, description="Most frames of an uploaded image; only the first is ever decoded."
    )
    image_roots: str | None = Field(
        None,
        description="Folders, separated by colons, that local images must lie in; uploads always may. Unset: with the "
        "embedded server whatever the process can read, with `database_url`, into which others may write, none.",
    )
    image_hosts: str | None = Field(
        None,
        description="Hosts, separated by commas, that images are fetched from. *: every host with a public address; "
        "a host that is named may have a private one. Unset: * with the embedded server, with `database_url` none.",
    )
    fetch_timeout: float = Field(20, gt=0, description="Seconds that fetching one image may take.")
    query_timeout: float = Field(10, gt=0, description="Seconds that a search waits for its query image's embedding.")
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the API listens on.")
    api_workers: int = Field(2, ge=1, description="API processes.")
    api_threads: int = Field(8, ge=1, description="Threads, and database connections, of each API process.")
    api_auth: Literal["auto", "keys", "none"] = Field(
        "auto",
        description="Who may use the API. auto: everyone on this machine while `host` is a loopback address, holders "
        "of keys elsewhere; keys: holders of keys; none: everyone who reaches it.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="Reverse proxies before the API whose X-Forwarded-For, -Proto, -Host and -Prefix are believed. "
        "With any, callers need keys unless `api_auth` says otherwise.",
    )
    rate_limit: str | None = Field(
        None,
        description="Requests that a key (or an address, where no key is needed) may make, as 50/second; 1000/minute. "
        "Unset: no limit.",
    )
    rate_limit_storage: str = Field(
        "memory://",
        description="Where requests are counted: each process for itself, or redis://host for all together.",
    )
    concurrency_limit: int | None = Field(
        None,
        ge=1,
        description="Requests of one key (or address, where no key is needed) at a time in each API process. "
        "Unset: no limit.",
    )
    search_timeout: float = Field(10, gt=0, description="Seconds that a search's statement may take.")
    write_timeout: float = Field(30, gt=0, description="Seconds that any other statement of the API may take.")
    recall_sample: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of searches that the API and the CLI keep, so that their recall is checked when there is "
        "time. 0: none.",
    )
    recall_budget: float = Field(
        0.01, ge=0, le=0.5, description="Share of the time that idle workers, all together, spend on those checks."
    )
    recall_adjust: float = Field(
        1,
        ge=1,
        le=100,
        description="How many times deeper than set up workers may make searches while their recall is below its "
        "goal. 1: they only warn.",
    )
    recall_query_days: float = Field(
        7, gt=0, description="Days after which a kept search that was never checked is forgotten."
    )
    slow_ms: float | None = Field(
        None, ge=0, description="Requests that take as many milliseconds are logged with their timings. Unset: none."
    )
    telemetry: bool = Field(
        False,
        description="Have the API send traces by OpenTelemetry, to where its OTEL_ variables say (extra telemetry).",
    )
    log_format: Literal["text", "json"] = Field("text", description="Lines of the API's log: text or json.")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")


@cache
def settings() -> Settings:
    """Return the process's settings; the environment is read once, at the first call, not at import.

    What it does not name is looked up in the file `settings.env` of `home`, which `lookalike preset apply` writes.
    """
    return Settings(_env_file=Settings().home / ENVIRONMENT_FILE)
