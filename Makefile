# Every target sets up what it needs: a virtual environment in $(VENV), with the package and its test tools inside.
VENV ?= .venv
PYTHON ?= python3
SITE_VENV ?= .venv-site
BIN := $(VENV)/bin
READY := $(VENV)/.ready

OFFICIAL := --records leaderboard/v1/records --out leaderboard/v1
DEMO_RECIPES := ce balanced-softmax mixup cmo dbn-mix class-distance-mix-ours

.PHONY: demo test test-whole test-page lint typecheck check campaign leaderboard notebooks docs mixes site clean

demo: $(READY)
	$(BIN)/lt-bench sweep $(DEMO_RECIPES:%=digits-lt/%) --seeds 0,1,2 --work demo/runs --records demo/records
	$(BIN)/lt-bench leaderboard build --records demo/records --out demo/leaderboard
	$(BIN)/lt-bench leaderboard show --records demo/records

# One process a core, at most four: each imports torch. A file stays in one process, which shares what its tests build; files
# begin in the order of their names, which leaves short ones for the end.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Every method with every mix, loss and head that fits; `make test` has each two of them together once.
test-whole: $(READY)
	LT_BENCH_WHOLE=1 $(BIN)/python -m pytest tests/methods/test_method_conformance.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(READY)
	$(BIN)/mypy

check: lint typecheck test
	$(BIN)/lt-bench leaderboard check $(OFFICIAL)

# The board's page in a headless Chromium (`apt-get install chromium`); `make test` has these among all, where it is found.
test-page: $(READY)
	$(BIN)/python -m pytest -m browser -rs

# Attacks that take some twenty minutes; writes its figures into docs/reliability.md.
campaign: $(READY)
	$(BIN)/python tests/campaign --write docs/reliability.md

# The tables that ship, of the records that ship; `lt-bench leaderboard build` alone makes your own, in results/.
leaderboard: $(READY)
	$(BIN)/lt-bench leaderboard add leaderboard/v1/records --records leaderboard/v1/records
	$(BIN)/lt-bench leaderboard build $(OFFICIAL)
	$(BIN)/lt-bench leaderboard robust --board --out leaderboard/robustness/README.md

# Notebooks are stored with what they show of the records that ship; the tests say where that has changed.
notebooks: $(READY)
	$(BIN)/python notebooks/store.py

docs: $(READY)
	$(BIN)/lt-bench docs

# Pictures of what mixes do, on the embedded digits.
mixes: $(READY)
	$(BIN)/python docs/draw_mixes.py

# The pages of this repository, to be read in a browser: site/index.html. Its own environment needs no torch: the reference is
# made of the sources as they stand.
site: $(SITE_VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(SITE_VENV)/bin/mkdocs build --strict

$(SITE_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SITE_VENV)
	$(SITE_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(SITE_VENV)/bin/python -m pip install --quiet --group docs
	touch $@

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(SITE_VENV) site demo build dist
