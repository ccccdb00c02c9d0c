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

.PHONY: demo demo-furniture demo-sculpture test bench torture clean

# pip would spend half of its time on compiling modules that nobody imports. Python compiles what it
# does import and keeps that, unless it is forbidden to: then pip had better compile them, once.
NO_COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)

$(VENV)/installed: requirements.txt setup.py
	$(PYTHON) -m venv "$(VENV)"
	"$(PY)" -m pip install --quiet --disable-pip-version-check $(NO_COMPILE) -r requirements.txt
	touch "$@"

$(VENV)/installed-extras: $(VENV)/installed requirements-extras.txt
	"$(PY)" -m pip install --quiet --disable-pip-version-check $(NO_COMPILE) \
		-r requirements-extras.txt
	touch "$@"

# Neither training's steps fill all cores: beside each other, with half of them each, the two take
# less time. The second one waits while furniture is made (nice), as all wait for that; what it says
# goes to a file, lest they write over each other's lines.
demo: $(VENV)/installed
	@mkdir -p out
	@echo "learning the furniture, and beside it the sculpture, which speaks in $(SCULPTURE).log"
	@$(MAKE) --no-print-directory --jobs=2 demo-furniture demo-sculpture
	"$(PY)" scripts/generate_mesh.py $(RUN)
	"$(PY)" scripts/evaluate.py $(RUN) --baselines
	"$(PY)" scripts/render.py $(RUN) --contact-sheet
	"$(PY)" scripts/report.py $(RUN) --objects 12
	@echo "the sculpture:"
	@cat $(SCULPTURE).log
	@echo "curves and pictures: $(VENV)/bin/tensorboard --logdir out"

demo-furniture demo-sculpture: export OMP_NUM_THREADS = $(shell \
	cores=$$(nproc 2>/dev/null || sysctl -n hw.ncpu); echo $$(( (cores + 1) / 2 )))

demo-furniture:
	"$(PY)" scripts/train.py $(CONFIG) data.workers=1

demo-sculpture: NICE = nice -n 19 "$(PY)"
demo-sculpture:
	@{ $(NICE) scripts/train.py configs/idr_sculpture.yaml training.iterations=2000 \
			training.out_dir=$(SCULPTURE) \
		&& $(NICE) scripts/generate_mesh.py $(SCULPTURE) --resolution 256 \
		&& $(NICE) scripts/evaluate.py $(SCULPTURE) \
		&& $(NICE) scripts/render.py $(SCULPTURE) --contact-sheet \
		&& $(NICE) scripts/report.py $(SCULPTURE) --views 4; \
	} > $(SCULPTURE).log 2>&1 || { cat $(SCULPTURE).log; exit 1; }

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
