# Fuzzing: tests/fuzz/<layer>/fuzz_<name>.c, each linked with that layer and those below.
#   build/<flavour>/fuzz/replay_<name>  runs kept inputs; any compiler, part of `make test`
#   make fuzz T=name [S=seconds]        looks for new ones with libFuzzer (clang)

FUZZ_C    := $(call src,tests/fuzz/*/fuzz_*.c)
FUZZ_HELP := $(BUILD)/tests/fuzz/fuzz.o
REPLAY    := $(patsubst fuzz_%.c,$(BUILD)/fuzz/replay_%,$(notdir $(FUZZ_C)))
FUZZER    := $(patsubst fuzz_%.c,$(BUILD)/fuzz/fuzz_%,$(notdir $(FUZZ_C)))
# The command's own files, for targets of tests/fuzz/cli.
FUZZ_CLI   = $(filter-out $(BUILD)/client/cli/main.o,$(call obj,$(CLI_C)))

FUZZ_LINK_server  = $(UNIT_LINK_server)
FUZZ_LINK_storage = $(UNIT_LINK_storage)
FUZZ_LINK_lm      = $(UNIT_LINK_lm)
FUZZ_LINK_cli     = $(FUZZ_CLI) $(UNIT_LINK_client)
FUZZ_NEED_server  = $(LIBSERVER) $(LIBLLHTTP) $(LIBSTORAGE) $(LIBINDEX) $(LIBBASE) $(FAISS_C)
FUZZ_NEED_storage = $(LIBSTORAGE) $(LIBBASE)
FUZZ_NEED_lm      = $(LIBLM) $(LIBASCRIBE) $(LIBINDEX) $(LIBBASE)
FUZZ_NEED_cli     = $(FUZZ_CLI) $(LIBASCRIBE)

$(BUILD)/tests/fuzz/server/%.o: CPPFLAGS += $(LLHTTP_DEF) -isystem $(LLHTTP_INC)

# $1 layer, $2 name
define fuzz_rules
$(BUILD)/fuzz/replay_$2: $(BUILD)/tests/fuzz/$1/fuzz_$2.o $(BUILD)/tests/fuzz/replay.o $(FUZZ_HELP) $(FUZZ_NEED_$1)
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $(BUILD)/tests/fuzz/$1/fuzz_$2.o $(BUILD)/tests/fuzz/replay.o $(FUZZ_HELP) $(FUZZ_LINK_$1)
$(BUILD)/fuzz/fuzz_$2: $(BUILD)/tests/fuzz/$1/fuzz_$2.o $(FUZZ_HELP) $(FUZZ_NEED_$1)
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$$(CC) $$(LDFLAGS) -fsanitize=fuzzer -o $$@ $(BUILD)/tests/fuzz/$1/fuzz_$2.o $(FUZZ_HELP) $(FUZZ_LINK_$1)
endef
$(foreach c,$(FUZZ_C),$(eval $(call fuzz_rules,$(notdir $(patsubst %/,%,$(dir $c))),$(patsubst fuzz_%.c,%,$(notdir $c)))))

unit: $(REPLAY)
.PHONY: fuzzers fuzz
fuzzers: $(FUZZER)

T ?= all
S ?= 60
fuzz: deps ## Fuzz one target, or all: T=http S=60 (seconds each)
	@sh .ci/deps.sh libclang-rt-14-dev
	$(Q)$(MAKE) --no-print-directory -j2 CC=clang FLAVOUR=fuzz fuzzers
	/usr/bin/python3 tests/fuzz/run.py --build build/fuzz --target $(T) --seconds $(S)
