# Each target sets up what it needs. Install only Python 3.11 or newer and make by hand.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The environment is rebuilt if these files change. An unfinished one has no stamp, so it is built again.
STAMP := $(VENV)/.installed

.PHONY: demo test test16 reference audit lint types docs check bench bench-quick browser chaos chaos-short soak soak-short clean

demo: $(STAMP)  ## Embed the sample gallery and show searches on it
	$(BIN)/python -m app.demo

test: $(STAMP)  ## The whole test suite, on a real embedded PostgreSQL
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder --durations 20 --ignore=tests/browser

# The oldest supported server, which the embedded package contains too. One test needs PostgreSQL 18, because only its
# extension_control_path can hide pgvector from a server.
test16: $(STAMP)  ## Schema, queue, search and filters on PostgreSQL 16
	PGSERVER_POSTGRES_VERSION=16 $(BIN)/python -m pytest tests/db/test_migrations.py tests/store/test_jobs.py tests/store/test_query_images.py \
		tests/search/test_search.py tests/search/test_oracle.py tests/index/test_attributes.py tests/search/test_functions_sql.py \
		--deselect tests/db/test_migrations.py::test_a_server_without_pgvector_is_refused_with_the_way_out

# Playwright uses Debian's Chromium, or another one that is on the PATH as chromium.
browser: $(STAMP)  ## The page in headless Chromium, axe-core included; screenshots in build/screenshots
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
		apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
		{ echo "the browser tests need Chromium: apt-get install chromium (as root, this target does it)"; exit 1; }
	$(BIN)/python -m pytest tests/browser

audit: $(STAMP)  ## Known vulnerabilities of the pinned dependencies; AUDIT=required fails if they cannot be checked
	$(BIN)/python .ci/audit

reference: $(STAMP)  ## The demo's embeddings against timm's own transform and forward
	$(BIN)/python -m bench.embedding.reference --against embedded

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m migrations.lint

types: $(STAMP)
	$(BIN)/mypy

# Strict: a page missing from the navigation and a broken link or anchor are errors.
docs: $(STAMP)  ## The documentation as a site with search, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

check: lint types docs test browser test16 demo reference

bench: $(STAMP)  ## Search under filters, quick; see bench/README.md for the rest
	$(BIN)/python -m bench.search.filters --quick

bench-quick: $(STAMP)  ## Start every bench in its shortest form and check that it ends well, without storing results
	$(BIN)/python -m bench

# Seconds of chaos, or of the soak. Drains and checks take about half as long again.
DURATION ?= 600
chaos: $(STAMP)  ## Kill workers, API and PostgreSQL hundreds of times under load, then check that nothing is lost
	$(BIN)/python -m bench.chaos --duration $(DURATION) --results bench/results/chaos

chaos-short: $(STAMP)  ## The same for a minute or two, without storing results
	$(BIN)/python -m bench.chaos --duration 40

soak: $(STAMP)  ## Search without pause while index, model, schema, workers and API change; store results and a plot
	$(BIN)/python -m bench.soak --duration $(DURATION) --results bench/results/soak

soak-short: $(STAMP)  ## The same once, on a small gallery, without storing results
	$(BIN)/python -m bench.soak --quick

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Lookalike needs Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,embedded,dev]'
	touch $(STAMP)

clean:  ## Remove the environment and the demo's database (stop `lookalike up` first)
	rm -rf $(VENV) .lookalike build dist site
