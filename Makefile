# make run     a small, complete study on the embedded synthetic cells (under 8 minutes on two cores)
# make bench   speed against the usual ways of doing the same (half an hour; let nothing run beside it)
# make coverage  how often intervals cover the true value in simulated studies (a quarter of an hour): tables/coverage.md;
#                with RUNS=runs, in studies with the test specimens and classes of these runs
# make lock    requirements.txt: the versions of constraints.txt with checksums (needs uv)
# make docs    the pages of docs/ as build/docs/index.html
# make test    format, lint, types, tests and notebooks
# make test-long  the tests that take long: killed and shared runs, every model, the report in a browser
# make test-wheel  the wheel in an empty folder: a tiny grid, figures, report, predictions, ONNX (some minutes)
# make test-commands  every command of README and docs/ in a shell (hours on a slow machine)
# make test-cluster  the launchers on a real Slurm and a real Ray, which it installs (needs root)
# make data    prepare the store ahead of training: make data ARGS="data=folder data.root=DIR"
# make figures tables paper  all figures and tables that stored runs allow: make figures RUNS=runs; paper makes both
# make report  figures, tables and recommendation as one page, report.html: make report RUNS=runs
# make dashboard  a W&B workspace and report of uploaded runs: make dashboard ENTITY=you (needs wandb login)
# make figure3 one figure or table from stored runs: make figure3 RUNS=runs, make models_table RUNS=runs
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
RUNS ?= runs
ENTITY ?=
QUICK := runs/quick
FIGURES := $(basename $(notdir $(wildcard experiments/figures/*.py experiments/tables/*.py)))

.PHONY: help lock run test test-long test-wheel test-commands test-cluster check bench data figures tables paper report dashboard docs coverage $(FIGURES) clean
help:
	@sed -n 's/^# //p' Makefile

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,export,slides,weights]'
	touch $@

lock:  # after a change of pyproject.toml or constraints.txt; needs uv (pip install uv)
	echo hatchling | uv pip compile pyproject.toml - $(addprefix --extra ,dev export slides weights) \
		--constraint constraints.txt --generate-hashes --universal --python-version 3.11.5 \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links --output-file requirements.txt

run: .venv/installed
	$(BIN)/cellpatch train -m experiment=quick
	$(BIN)/cellpatch runs $(QUICK) --csv $(QUICK)/runs.csv
	$(BIN)/python experiments/figures/figure3.py $(QUICK)
	@echo
	@echo "Look at: figures/figure3.png   macro-F1 against annotations per class (synthetic cells)"
	@echo "         $(QUICK)/runs.csv   every run in one table; again with: $(BIN)/cellpatch runs $(QUICK)"
	@echo "Next:    your own cells, README.md, 'Train on your own cells'"

data: .venv/installed
	$(BIN)/cellpatch prepare $(ARGS)

figures tables: .venv/installed
	$(BIN)/python experiments/report/make_all.py $@ $(RUNS)

paper: .venv/installed
	$(BIN)/python experiments/report/make_all.py all $(RUNS)

$(FIGURES): .venv/installed
	$(BIN)/python $(wildcard experiments/*/$@.py) $(RUNS)

report: .venv/installed
	$(BIN)/python experiments/report/report.py $(RUNS)

dashboard: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dashboard]'
	$(BIN)/python experiments/report/dashboard.py $(ENTITY)

coverage: .venv/installed
	$(BIN)/python experiments/studies/coverage.py $(if $(filter command line,$(origin RUNS)),$(RUNS))

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/docs
	@echo "Open build/docs/index.html"

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python benchmarks/suite.py

test: check
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -n 0 --nbmake notebooks

test-long: .venv/installed
	$(BIN)/python -m pytest -m long

test-wheel: .venv/installed
	$(BIN)/python -m pytest -n 0 -m wheel tests/test_wheel.py

test-commands: .venv/installed
	$(BIN)/python -m pytest -n 0 -m commands tests/test_documented_commands.py

test-cluster: .venv/installed
	tests/cluster/install.sh $(BIN)/python
	$(BIN)/python -m pytest -n 0 -m cluster tests/test_cluster.py

clean:
	rm -rf .venv build *.egg-info
