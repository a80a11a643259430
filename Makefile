# make demo    set up, export the intent model for a Cortex-M7, build it, run and verify it in the emulator
# make test    set up, run all tests
# make test-real   two real models from the package index
# make lint    formatting and clippy
# make bench   the figures of docs/benchmarks.md
# make demo-web    the intent model as WebAssembly in docs/demo/model, for the page there
# make setup   what demo and test need: compilers for Arm and WebAssembly, an emulator, node, a browser, python3, make, cc, where absent

CARGO ?= cargo
BIN   := $(or $(CARGO_TARGET_DIR),target)/release/bitnet-convert
ROOT  := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

TOOLS    := cc:gcc cc:libc6-dev make:make python3:python3 arm-none-eabi-gcc:gcc-arm-none-eabi qemu-system-arm:qemu-system-arm \
            clang-19:clang-19 wasm-ld-19:lld-19 node:nodejs chromium:chromium chromedriver:chromium-driver
MISSING  := $(sort $(foreach t,$(TOOLS),$(if $(shell command -v $(word 1,$(subst :, ,$t))),,$(word 2,$(subst :, ,$t)))))

setup:
ifneq ($(MISSING),)
	@echo "installing $(MISSING)"
	@command -v apt-get > /dev/null || { echo "no apt-get here: install $(MISSING) with your package manager, then run make again"; exit 1; }
	$(ROOT) apt-get update -qq
	$(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(MISSING)
endif
	@command -v $(CARGO) > /dev/null || { echo "cargo is missing: install Rust 1.89 or later"; exit 1; }

$(BIN): FORCE
	$(CARGO) build --release --locked

demo: setup $(BIN)
	$(BIN) export --model fixtures/models/intent-w1a2 --target cortex-m7 -o build/m7 \
	  --prompt "<|system|>You are a sensor assistant.<|user|>What's the temp?<|assistant|>" \
	  --prompt "<|system|>You are a sensor assistant.<|user|>Is the soil dry?<|assistant|>" \
	  --prompt "<|system|>You are a sensor assistant.<|user|>Please run a calibration now<|assistant|>"
	@echo; echo "== the firmware, built for the board and for the emulator; what it must not contain is checked"
	@$(MAKE) --no-print-directory -s -C build/m7
	@$(MAKE) --no-print-directory -s -C build/m7 check stack
	@echo; echo "== the firmware in the emulator: self-test, then three prompts"
	@$(MAKE) --no-print-directory -s -C build/m7 run ARGS=
	@echo; echo "== the same integers everywhere"
	$(BIN) verify build/m7 --target all --require

demo-web: setup $(BIN)
	$(BIN) export --model fixtures/models/intent-w1a2 --target wasm32 -o docs/demo/model
	@echo; echo "serve the page and open http://127.0.0.1:8000/ :  python3 -m http.server --bind 127.0.0.1 --directory docs/demo 8000"

# Tools were just installed, so a runner that does not run is a failure here.
test: setup
	BITNET_REQUIRE=1 $(CARGO) test --locked

test-real: $(BIN)
	python3 tools/test_real.py $(BIN)

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

bench: setup $(BIN)
	python3 tools/bench.py $(BIN)

clean:
	rm -rf build target

FORCE:
.PHONY: setup demo demo-web test test-real lint bench clean FORCE
