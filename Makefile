# Every target sets itself up from a bare Python 3.11+ with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_ARGS ?=
TEST_ARGS ?=
SHOT_ARGS ?=
BENCH_ARGS ?=
CHAOS_ARGS ?= --write benchmarks/CHAOS.md
FUZZ_ARGS ?=
ROOMS := jobtrail producers consumers projections tests

# Installs packages as root, or by sudo where that asks for no password; else says what to type.
APT_INSTALL := sh -c 'as=; test "$$(id -u)" = 0 || as="sudo -n"; \
	{ command -v apt-get && $$as true; } >/dev/null 2>&1 \
		|| { echo "install these yourself: sudo apt-get install $$*  (or what your system calls them)" >&2; exit 1; }; \
	$$as apt-get update -q -o Acquire::Retries=3 \
		&& $$as apt-get install -qy -o Acquire::Retries=3 --no-install-recommends "$$@"' apt-install

.PHONY: help setup demo test test-browser screenshots browser chaos bench-alerts bench-cleanup bench-decode bench-emit bench-freshness bench-growth bench-outage bench-pages bench-read bench-reads-during bench-replay bench-tap bench-views fuzz check \
	format schemas lock clean

help: ## What there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(STAMP) ## A virtual environment in .venv, from the locked requirements

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Jobtrail needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name one with make PYTHON=…") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

demo: $(STAMP) ## Three real jobs through a real Kafka into a real Postgres; DEMO_ARGS=--exit checks and leaves
	$(BIN)/jobtrail demo $(DEMO_ARGS)

test: $(STAMP) ## All tests, on real servers that three workers share (they wait more than they work)
	$(BIN)/python -m pytest -n 3 --ignore tests/browser $(TEST_ARGS)

test-browser: $(STAMP) browser ## The pages in a real Chromium, which it installs where there is none and it may
	$(BIN)/python -m pytest tests/browser $(TEST_ARGS)

screenshots: $(STAMP) browser ## Pictures of the pages: docs/screenshots/; SHOT_ARGS, such as jobs-phone
	@command -v mutool >/dev/null || $(APT_INSTALL) mupdf-tools
	PYTHONPATH=tests:tests/web:tests/browser:benchmarks $(BIN)/python tests/browser/screenshots.py $(SHOT_ARGS)

# A fresh machine has no fonts: text, and the signs before it.
browser: ## Chromium for the two above, by apt-get, where there is none yet
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| $(APT_INSTALL) chromium fonts-liberation fonts-dejavu-core

chaos: $(STAMP) ## 200 seeded rounds of faults against the golden fold; CHAOS_ARGS, such as --rounds 1 --seed 17
	PYTHONPATH=tests:benchmarks $(BIN)/python -m chaos $(CHAOS_ARGS)

bench-replay: $(STAMP) ## How fast a log is replayed, beside Flink SQL, Debezium, Quix Streams and Faust; BENCH_ARGS, such as --rounds 1
	$(BIN)/python benchmarks/replay.py --check $(BENCH_ARGS)

bench-growth: $(STAMP) ## Replay, memory and bytes at 1, 10 and 50 million events; BENCH_ARGS, such as --sizes 1000000
	$(BIN)/python benchmarks/growth.py $(BENCH_ARGS)

bench-read: $(STAMP) ## How fast the HTTP interface reads among a million jobs; BENCH_ARGS, such as --jobs 10000
	$(BIN)/python benchmarks/read.py --check $(BENCH_ARGS)

bench-views: $(STAMP) ## How long analysts' queries of 30 days take among a million jobs; writes its section of benchmarks/RESULTS.md
	$(BIN)/python benchmarks/views.py --write --check $(BENCH_ARGS)

bench-pages: $(STAMP) ## First paint among a million jobs, and what a hundred open pages cost (needs Chromium); writes its section of benchmarks/RESULTS.md
	$(BIN)/python benchmarks/pages.py --write --check $(BENCH_ARGS)

bench-decode: $(STAMP) ## How fast messages become folded rows on one thread; BENCH_ARGS, such as --events 100000
	$(BIN)/python benchmarks/decode.py $(BENCH_ARGS)

bench-emit: $(STAMP) ## What the SDK costs above the Kafka client; writes its section of benchmarks/RESULTS.md
	$(BIN)/python benchmarks/emit.py --write $(BENCH_ARGS)

bench-freshness: $(STAMP) ## From emit to readable by SQL and HTTP; writes its section of benchmarks/RESULTS.md
	$(BIN)/python benchmarks/freshness.py --write $(BENCH_ARGS)

bench-outage: $(STAMP) ## An outage of the broker and kills of the worker; writes its section of benchmarks/RESULTS.md
	$(BIN)/python benchmarks/outage.py --write --check $(BENCH_ARGS)

bench-reads-during: $(STAMP) ## What readers notice of a rebuild and its swap; writes its section of benchmarks/RESULTS.md
	$(BIN)/python benchmarks/reads_during.py --write $(BENCH_ARGS)

bench-alerts: $(STAMP) ## Alerts over half a year of 50 connections, 12 seeds; writes its section of benchmarks/RESULTS.md
	$(BIN)/python benchmarks/alerts_year.py --seeds 12 --write --check $(BENCH_ARGS)

bench-tap: $(STAMP) ## What the tap costs in a pipe, against cat and wc; writes its section of benchmarks/RESULTS.md
	$(BIN)/python benchmarks/tap.py --write $(BENCH_ARGS)

bench-cleanup: $(STAMP) ## How long writers wait while a million heartbeats are deleted
	$(BIN)/python benchmarks/cleanup.py

fuzz: $(STAMP) ## A million random or damaged messages through the bulk decoder; FUZZ_ARGS, such as --seed 2
	$(BIN)/python tests/fuzz/bodies.py $(FUZZ_ARGS)

check: $(STAMP) ## Format, lint, types, import contract, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m jobtrail.schemas --check

format: $(STAMP) ## Let ruff format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(STAMP) ## Write avro/ from the event classes
	$(BIN)/python -m jobtrail.schemas

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header pyproject.toml

lock: ## Resolve the requirements anew (needs uv)
	$(COMPILE) --all-extras --group dev -o requirements.lock
	$(COMPILE) --extra server -o requirements-server.lock

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
