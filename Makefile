# `make demo`: install, train DVR on the embedded furniture and IDR on the embedded sculpture, make
# meshes, score them, show where to look.
# `make test`: install, then lint, types and tests.
# `make bench`: measure the core beside its plain oracles, ten minutes on two cores.
# `make torture`: kill trainings at random instants, keep some running for long, damage files.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
CONFIG ?= configs/dvr_ShapeNet.yaml
RUN := out/dvr_ShapeNet
SCULPTURE := out/idr_sculpture_demo

.PHONY: demo test bench torture clean

$(VENV)/installed: requirements.txt setup.py
	$(PYTHON) -m venv "$(VENV)"
	"$(PY)" -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch "$@"

$(VENV)/installed-extras: $(VENV)/installed requirements-extras.txt
	"$(PY)" -m pip install --quiet --disable-pip-version-check -r requirements-extras.txt
	touch "$@"

demo: $(VENV)/installed
	"$(PY)" scripts/train.py $(CONFIG)
	"$(PY)" scripts/generate_mesh.py $(RUN)
	"$(PY)" scripts/evaluate.py $(RUN) --baselines
	"$(PY)" scripts/render.py $(RUN) --contact-sheet
	"$(PY)" scripts/train.py configs/idr_sculpture.yaml training.iterations=1600 \
		training.out_dir=$(SCULPTURE)
	"$(PY)" scripts/generate_mesh.py $(SCULPTURE) --resolution 256
	"$(PY)" scripts/evaluate.py $(SCULPTURE)
	"$(PY)" scripts/render.py $(SCULPTURE) --contact-sheet
	"$(PY)" scripts/report.py $(RUN) --objects 12
	"$(PY)" scripts/report.py $(SCULPTURE) --views 4
	@echo "curves and pictures: $(VENV)/bin/tensorboard --logdir out"

test: $(VENV)/installed-extras
	"$(PY)" -m ruff check .
	"$(PY)" -m mypy
	"$(PY)" -m pytest

bench: $(VENV)/installed
	"$(PY)" scripts/benchmark.py all --json out/benchmark.json --plot out/benchmark.png

torture: $(VENV)/installed-extras
	OMP_NUM_THREADS=1 "$(PY)" -m tests.torture

clean:
	rm -rf "$(VENV)" out data/furniture data/sculpture
