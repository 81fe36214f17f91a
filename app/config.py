"""All settings: each declares its name, default and help text once."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Settings of this installation, in `home`; environment variables override them.
ENVIRONMENT_FILE = "settings.env"


class Settings(BaseSettings):
    """Settings, read from the environment variables `LOOKALIKE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="LOOKALIKE_", frozen=True, extra="ignore")

    database_url: str | None = Field(
        None,
        description="PostgreSQL database, as postgresql://user:password@host:port/name. Unset: the embedded server in "
        "`home`.",
    )
    read_database_url: str | None = Field(
        None,
        description="Streaming standbys that serve searches. Separate several hosts by commas, as libpq does: "
        "postgresql://user@a,b/name?load_balance_hosts=random. Unset: the primary serves all searches.",
    )
    read_max_lag: float = Field(
        10,
        gt=0,
        description="Largest lag of a standby in seconds. Searches skip a standby that is further behind the primary.",
    )
    read_wait: float = Field(
        0.5,
        ge=0,
        description="Longest time in seconds that a search waits until a standby has replayed the WAL position that "
        "the search names. The primary then serves the search.",
    )
    home: Path = Field(
        Path(".lookalike"), description="Folder for the embedded server's data and log, and for uploaded files."
    )
    storage_url: str | None = Field(
        None,
        description="Folder or fsspec URL (s3://bucket/prefix) for uploaded images. Unset: `uploads` in `home`.",
    )
    model: str = Field(
        "tf_efficientnet_lite0", description="timm model of the first embedding space, which the first worker creates."
    )
    weights: str | None = Field(
        None, description="Local weight file for that model. Unset: a weight package, else timm's own download."
    )
    device: str | None = Field(None, description="torch device for workers. Unset: cuda if available, else cpu.")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto",
        description="Number format that workers compute in: auto, fp32, tf32, bf16 or fp16. auto: a faster format if "
        "the hardware has one whose embeddings stay within cosine 0.999 of fp32, else fp32.",
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=4096,
        description="Maximum number of images that a worker encodes at once. 0: measured at start, the smallest batch "
        "that keeps the device busy.",
    )
    compile: bool = Field(
        False,
        description="Compile the model with torch when a worker starts (`lookalike bench worker` measures whether it "
        "pays).",
    )
    cuda_graphs: bool = Field(False, description="Record full batches as a CUDA graph when a worker starts.")
    loader_threads: int = Field(0, ge=0, le=256, description="Threads that fetch and decode images. 0: one per core.")
    query_share: int = Field(
        4, ge=1, description="Consecutive batches of query images before jobs get their turn, when both wait."
    )
    job_share: int = Field(
        1, ge=1, description="Consecutive batches of jobs before query images get their turn, when both wait."
    )
    active_share: int = Field(
        9,
        ge=0,
        description="Consecutive batches from the active space before a batch from another space gets its turn, when "
        "jobs of both wait. 0: other spaces wait until the active space has no jobs.",
    )
    lease_seconds: float = Field(
        120,
        gt=0,
        description="Lease of a claimed job in seconds. Another worker may claim the job when the lease ends.",
    )
    max_attempts: int = Field(
        5,
        ge=1,
        description="Maximum number of attempts for an image with transient errors, before it is stored as failed.",
    )
    index_min_rows: int = Field(
        500,
        ge=1,
        description="Number of embeddings from which a space gets its first HNSW index, once its queue is empty.",
    )
    maintain: bool = Field(
        True,
        description="Let idle workers rebuild indexes and vacuum tables after many changes, as `lookalike maintain` "
        "does.",
    )
    max_image_bytes: int = Field(64 * 2**20, gt=0, description="Maximum size of an image file, in bytes.")
    max_image_pixels: int = Field(100_000_000, gt=0, description="Maximum size of a decoded image, in pixels.")
    max_image_frames: int = Field(
        1000, ge=1, description="Maximum number of frames in an uploaded image; only the first frame is decoded."
    )
    image_roots: str | None = Field(
        None,
        description="Folders, separated by colons, that local images must lie in; uploads are always allowed. Unset: "
        "every readable folder with the embedded server, none with `database_url`, because others may write "
        "to that database.",
    )
    image_hosts: str | None = Field(
        None,
        description="Hosts, separated by commas, that images may be fetched from. *: every host with a public "
        "address; a host listed by name may have a private address. Unset: * with the embedded server, none with "
        "`database_url`.",
    )
    fetch_timeout: float = Field(20, gt=0, description="Timeout for fetching one image, in seconds.")
    query_timeout: float = Field(10, gt=0, description="Timeout for embedding the query image of a search, in seconds.")
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the API listens on.")
    api_workers: int = Field(2, ge=1, description="Number of API processes.")
    api_threads: int = Field(
        8, ge=1, description="Number of threads, and of database connections, in each API process."
    )
    api_auth: Literal["auto", "keys", "none"] = Field(
        "auto",
        description="Who may use the API. auto: everyone on this machine if `host` is a loopback address, else holders "
        "of an API key; keys: holders of an API key; none: everyone who can reach it.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="Number of reverse proxies whose X-Forwarded-For, -Proto, -Host and -Prefix headers the API "
        "trusts. If above 0, callers need an API key unless `api_auth` is none.",
    )
    rate_limit: str | None = Field(
        None,
        description="Request limits for each API key (or address, if no key is needed), such as 50/second; "
        "1000/minute. Unset: no limit.",
    )
    rate_limit_storage: str = Field(
        "memory://",
        description="Storage of the request counts. memory://: each process counts separately; redis://host: all "
        "processes count together.",
    )
    concurrency_limit: int | None = Field(
        None,
        ge=1,
        description="Maximum number of concurrent requests for each API key (or address, if no key is needed) in each "
        "API process. Unset: no limit.",
    )
    search_timeout: float = Field(10, gt=0, description="Statement timeout for searches, in seconds.")
    write_timeout: float = Field(
        30, gt=0, description="Statement timeout for all other statements of the API, in seconds."
    )
    recall_sample: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of searches (API and CLI) whose recall idle workers check later. 0: none.",
    )
    recall_budget: float = Field(
        0.01, ge=0, le=0.5, description="Share of time that all idle workers together spend on recall checks."
    )
    recall_adjust: float = Field(
        1,
        ge=1,
        le=100,
        description="Maximum factor by which workers may deepen searches while their recall is below its goal. 1: "
        "workers only warn.",
    )
    recall_query_days: float = Field(
        7, gt=0, description="Days after which a sampled search is deleted if its recall was not checked."
    )
    slow_ms: float | None = Field(
        None,
        ge=0,
        description="Threshold in milliseconds above which a request is logged with its timings. Unset: none.",
    )
    telemetry: bool = Field(
        False,
        description="Send the API's traces by OpenTelemetry, as its OTEL_ variables configure (extra telemetry).",
    )
    log_format: Literal["text", "json"] = Field("text", description="Format of the API's log: text or json.")
    log_level: str = Field("INFO", description="Log level: DEBUG, INFO, WARNING or ERROR.")


@cache
def settings() -> Settings:
    """Return the process's settings; the first call reads the environment, not the import.

    Settings missing from the environment come from the file `settings.env` in `home`, which `lookalike preset apply`
    writes.
    """
    return Settings(_env_file=Settings().home / ENVIRONMENT_FILE)
