"""Deployment files, checked as documents, because CI has no container engine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, dict[str, dict[str, object]]]:
    loaded: dict[str, dict[str, dict[str, object]]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_the_compose_file_is_valid() -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "docker-compose.yml",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def test_every_service_except_the_migration_has_a_health_check(
    compose: dict[str, dict[str, dict[str, object]]],
) -> None:
    services = compose["services"]
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"migrate"}
    for name in ("api", "worker"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_volumes_are_declared_and_no_password_is_in_the_file(
    compose: dict[str, dict[str, dict[str, object]]],
) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"[\[\s\"](\w+):/", text)) - {"postgresql"}
    assert used == set(compose["volumes"])
    assert not re.search(r"PASSWORD: (?!\$\{POSTGRES_PASSWORD:\?)", text)


def test_the_dockerfile_copies_existing_files_and_only_the_worker_gets_torch() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    assert len(stages) == 3  # a comment, then the two images
    for source in re.findall(r"^COPY (.+) \S+$", stages[1], re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), f"Dockerfile copies {name}"
    assert "[worker]" not in stages[1]
    assert "[worker]" in stages[2]


def test_the_wheel_includes_every_package() -> None:
    configuration = (ROOT / "pyproject.toml").read_text()
    for package in ("app", "workers", "migrations", "sql"):
        assert f'"{package}"' in configuration.split("[tool.hatch.build.targets.wheel]")[1].split("]")[0]
