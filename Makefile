# `make` alone lists the targets. Everything is installed into .venv; nothing outside this folder is touched, but for a
# browser that `make test` may install.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test lint format train bench clean browser
.DELETE_ON_ERROR:

help: ## what this Makefile can do
	@awk -F ':.*## ' '/^[a-z.]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/ready ## install what is missing and start the app on http://127.0.0.1:7860 (GRADIO_SERVER_PORT=... for another port)
	@exec $(BIN)/python app.py

test: $(VENV)/ready-dev browser ## install what is missing and run all tests
	@$(BIN)/python -m pytest

browser: $(VENV)/ready-dev ## install a Chromium for the browser tests where there is none
	@$(BIN)/python -m tests.browser

lint: $(VENV)/ready-dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@find mmmrs_demo -name '*.pyi' -delete # gradio writes them when the app runs; mypy would read them instead of the code
	$(BIN)/mypy

format: $(VENV)/ready-dev ## bring the code into its usual form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(VENV)/ready-train ## train the embedded bundle from nothing on the tiles in DATA=folder; goes on where it was interrupted
	@test -n "$(DATA)" || { echo "Say where the tiles are: make train DATA=folder (one with an index.csv)"; exit 1; }
	@$(BIN)/mmmrs-demo dataset build --source "index=$(DATA)" --size 256 --upscale bicubic --weather 0.5 --out checkpoints/mmm-rs
	@exec $(BIN)/mmmrs-demo train mini --data checkpoints/mmm-rs

bench: $(VENV)/ready ## measure speed beside plain diffusers; a table, and benchmarks/speed.json
	@$(BIN)/python -m benchmarks.speed

requirements.txt: pyproject.toml ## write the list of requirements that a Hugging Face Space reads
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("$<", "rb"))["project"]["dependencies"], sep="\n")' > $@

clean: ## remove the environment and the caches, nothing else
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The file `ready` is there once an install has finished, and is as old as its start. While one runs it is called
# `unfinished`; who finds that name at the start knows that the last install was cut short, and begins anew.
$(VENV)/ready: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "This needs Python 3.11 or newer, and '$(PYTHON)' was not found. If yours has another name: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "This needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1). If a newer one has another name: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@if [ -e $(VENV)/unfinished ]; then echo "The last install was cut short: beginning anew."; rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(VENV)/unfinished
	@echo "Installing into $(VENV); the first time this downloads a few GB, most of it PyTorch."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --editable .
	@mv $(VENV)/unfinished $@

$(VENV)/ready-%: $(VENV)/ready
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[$*]'
	@touch $@
