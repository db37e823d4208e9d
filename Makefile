PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint bench mutate browser
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/gradguard lint examples/*.py
	$(BIN)/gradguard demo

test: lint browser
	$(BIN)/pytest -n 2

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/gradguard lint gradguard benchmarks examples/*.py

# Pages are tested in Debian's Chromium. Where it can be neither found nor installed, their tests
# fail and say so; CHROMIUM may name another one.
browser:
	@test -n "$$CHROMIUM" \
	|| command -v chromium || command -v chromium-browser || command -v google-chrome \
	|| { apt-get -qq update \
	&& DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install chromium; } \
	|| echo 'no browser: the tests of the HTML report will fail'

bench: $(READY)
	$(BIN)/python -m benchmarks.runtime
	$(BIN)/python -m benchmarks.reference
	$(BIN)/python -m benchmarks.lint

# Not part of `test`: takes every mechanism out in turn, and takes its time.
mutate: $(READY)
	$(BIN)/python tests/mutations

# torch comes first and alone, so that no other requirement can pull in another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --group dev --editable '.[torch,plot,report]'
	touch $@
