# ascribe: builds, tests, checks. `make help` lists what there is.
#
# Everything goes to build/<flavour>/; nothing is written elsewhere but by `make install`.
# Layers are archives linked in order, so a wrong dependency does not link:
#   libbase <- libstorage, libindex <- libserver;  libascribe (client) stands alone.

FLAVOUR ?= release
BUILD   ?= build/$(FLAVOUR)
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
        -Wformat=2 -Wcast-qual -Werror
# -ffp-contract=off: "exact" means the same bits everywhere (docs/exactness.md).
CFLAGS_release := -O2 -g
CFLAGS_asan    := -O1 -g -fsanitize=address -fno-omit-frame-pointer -DASCRIBE_DEBUG
CFLAGS_ubsan   := -O1 -g -fsanitize=undefined -fno-sanitize-recover=all -DASCRIBE_DEBUG
CFLAGS_tsan    := -O1 -g -fsanitize=thread -DASCRIBE_DEBUG
CFLAGS_debug   := -O0 -g3 -DASCRIBE_DEBUG
CFLAGS_plant   := -O2 -g -DASCRIBE_PLANT
CFLAGS_fuzz    := -O1 -g -fsanitize=fuzzer-no-link,address -fno-omit-frame-pointer -DASCRIBE_DEBUG
CPPFLAGS += -D_GNU_SOURCE -I. -I$(BUILD) -DASCRIBE_VERSION='"$(VERSION)"'
CFLAGS   += -std=gnu11 -fPIC -pthread -ffp-contract=off -fno-math-errno -MMD -MP $(WARN) $(CFLAGS_$(FLAVOUR))
# What the OpenSSF guide for hardening C asks of a released program, as far as this compiler has it
# (docs/SECURITY.md; tests/integration/test_hardening.py looks at what came of it).
have = $(shell $(CC) -Werror $1 -x c -c /dev/null -o /dev/null 2>/dev/null && echo '$1')
ifeq ($(FLAVOUR),release)
HARDEN := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong $(call have,-fstack-clash-protection) \
          $(call have,-fcf-protection=full) $(call have,-mbranch-protection=standard) \
          $(call have,-ftrivial-auto-var-init=zero)
endif
CFLAGS   += $(HARDEN)
LDFLAGS  += -pthread -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code $(filter -fsanitize=%,$(CFLAGS_$(FLAVOUR)))

FAISS_C    = build/faiss/libfaiss_c.a
LLHTTP_SRC = /usr/share/llhttp
LLHTTP_INC = /usr/share/include/llhttp
LLHTTP_DEF = -DLLHTTP_STRICT_MODE=1

LIBS_base    := -lm
LIBS_storage := -llmdb -lzstd -lxxhash
LIBS_index    = $(FAISS_C) -lfaiss -lopenblas -lgomp -lstdc++ -lm
LIBS_server  := -luv -ljansson -linih -lsodium -lsqlite3
LIBS_client  := -lcurl -ljansson -lxxhash -lm

# Quiet by default: `make V=1` shows the commands.
Q = $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' $1 $@)

src = $(sort $(wildcard $1))
obj = $(patsubst %.c,$(BUILD)/%.o,$1)

BASE_C    := $(call src,storage/base/*.c)
STORAGE_C := $(call src,storage/*.c)
INDEX_C   := $(call src,index/*.c)
SERVER_C  := $(filter-out server/main.c,$(call src,server/*.c))
CLIENT_C  := $(call src,client/*.c)
CLI_C     := $(call src,client/cli/*.c)
LM_C      := $(filter-out client/lm/main.c,$(call src,client/lm/*.c))

LIBBASE    := $(BUILD)/libbase.a
LIBSTORAGE := $(BUILD)/libstorage.a
LIBINDEX   := $(BUILD)/libindex.a
LIBLLHTTP  := $(BUILD)/libllhttp.a
LIBSERVER  := $(BUILD)/libserver.a
LIBASCRIBE := $(BUILD)/libascribe.a
LIBLM      := $(BUILD)/liblm.a

.PHONY: all storage index server client lm
all: storage index server client lm ## Build everything (release: build/release)
storage: $(LIBSTORAGE)
index: $(LIBINDEX)
server: $(BUILD)/ascribed
client: $(BUILD)/ascribe $(BUILD)/libascribe.so.1
lm: $(BUILD)/ascribe-lm

# --- objects and archives ---------------------------------------------------------------------
# Other flags, other objects: what was compiled with the ones before is compiled again.
FLAGS := $(CC) $(CFLAGS)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' > $@
.PHONY: FORCE
FORCE:

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

define archive
$1: $(call obj,$2)
	@rm -f $$@
	$$(call say,AR)
	$(Q)ar rcs $$@ $$^
endef
$(eval $(call archive,$(LIBBASE),$(BASE_C)))
$(eval $(call archive,$(LIBSTORAGE),$(STORAGE_C)))
$(eval $(call archive,$(LIBINDEX),$(INDEX_C)))
$(eval $(call archive,$(LIBSERVER),$(SERVER_C)))
$(eval $(call archive,$(LIBASCRIBE),$(CLIENT_C)))
$(eval $(call archive,$(LIBLM),$(LM_C)))

# llhttp: the distribution ships C sources, not a library. Foreign code: its own warnings.
$(BUILD)/llhttp/%.o: $(LLHTTP_SRC)/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) -O2 -fPIC $(HARDEN) $(LLHTTP_DEF) -I$(LLHTTP_INC) -c -o $@ $<
$(LIBLLHTTP): $(BUILD)/llhttp/api.o $(BUILD)/llhttp/http.o $(BUILD)/llhttp/llhttp.o
	@rm -f $@
	$(call say,AR)
	$(Q)ar rcs $@ $^
$(call obj,$(SERVER_C)): CPPFLAGS += $(LLHTTP_DEF) -isystem $(LLHTTP_INC)

# The page: its files, and the plots' library, embedded (server/page_files.sh).
D3      := /usr/share/nodejs/d3/dist/d3.min.js
PAGE    := $(call src,client/page/*.* client/page/*/*.*)
PAGE_AS := $(foreach f,$(PAGE),$(f:client/page/%=%)=$f) d3.js=$(D3)
$(BUILD)/page_files.c: server/page_files.sh $(PAGE) $(D3)
	@mkdir -p $(@D)
	$(call say,EMBED)
	$(Q)sh server/page_files.sh $@ $(PAGE_AS)
$(BUILD)/page_files.o: $(BUILD)/page_files.c
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
$(LIBSERVER): $(BUILD)/page_files.o

# The FAISS C API: linked where the distribution ships it, else built from its source package.
$(FAISS_C): index/faiss_c.sh
	$(Q)sh index/faiss_c.sh $@

# --- programs ------------------------------------------------------------------------------------
$(BUILD)/ascribed: $(BUILD)/server/main.o $(LIBSERVER) $(LIBLLHTTP) $(LIBSTORAGE) $(LIBINDEX) $(LIBBASE) $(FAISS_C)
	$(call say,LINK)
	$(Q)$(CC) -pie $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBSERVER) $(LIBLLHTTP) $(LIBSTORAGE) $(LIBINDEX) $(LIBBASE) \
	  $(LIBS_server) $(LIBS_storage) $(LIBS_index)
$(BUILD)/ascribe: $(call obj,$(CLI_C)) $(LIBASCRIBE)
	$(call say,LINK)
	$(Q)$(CC) -pie $(LDFLAGS) -o $@ $(call obj,$(CLI_C)) $(LIBASCRIBE) $(LIBS_client)
$(BUILD)/libascribe.so.1: $(call obj,$(CLIENT_C)) client/ascribe.map
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libascribe.so.1 -Wl,--version-script=client/ascribe.map \
	  -o $@ $(call obj,$(CLIENT_C)) $(LIBS_client)
	$(Q)ln -sf libascribe.so.1 $(BUILD)/libascribe.so
# The reference language model encodes where the gradient is: it may use the index, and nothing of
# FAISS (linked by object, so flat.o is not pulled in).
$(BUILD)/ascribe-lm: $(BUILD)/client/lm/main.o $(LIBLM) $(LIBASCRIBE) $(LIBINDEX) $(LIBBASE)
	$(call say,LINK)
	$(Q)$(CC) -pie $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBLM) $(LIBASCRIBE) $(LIBINDEX) $(LIBBASE) \
	  $(LIBS_client) -lopenblas -lm

# --- unit tests: tests/unit/<layer>/test_*.c, one program each; a layer's tests link that layer
#     and what lies below it, nothing else ---------------------------------------------------------
UNIT_C := $(call src,tests/unit/*/test_*.c)
UNIT   := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_C))
UNIT_HELP := $(call src,tests/unit/*.c)
UNIT_LINK_base    := $(LIBBASE) $(LIBS_base)
UNIT_LINK_storage := $(LIBSTORAGE) $(LIBBASE) $(LIBS_storage)
UNIT_LINK_index    = $(LIBINDEX) $(LIBBASE) $(LIBS_index)
UNIT_LINK_server   = $(LIBSERVER) $(LIBLLHTTP) $(LIBSTORAGE) $(LIBINDEX) $(LIBBASE) $(LIBS_server) $(LIBS_storage) $(LIBS_index)
UNIT_LINK_client  := $(LIBASCRIBE) $(LIBS_client)
UNIT_LINK_lm       = $(LIBLM) $(LIBASCRIBE) $(LIBINDEX) $(LIBBASE) $(LIBS_client) -lopenblas
# Real rules, one a layer: a pattern rule without a recipe would say nothing to make.
unit_of = $(filter $(BUILD)/unit/$1/%,$(UNIT))
$(call unit_of,base): $(LIBBASE)
$(call unit_of,storage): $(LIBSTORAGE) $(LIBBASE)
$(call unit_of,index): $(LIBINDEX) $(LIBBASE) $(FAISS_C)
$(call unit_of,server): $(LIBSERVER) $(LIBLLHTTP) $(LIBSTORAGE) $(LIBINDEX) $(LIBBASE) $(FAISS_C)
$(call unit_of,client): $(LIBASCRIBE)
$(call unit_of,lm): $(LIBLM) $(LIBASCRIBE) $(LIBINDEX) $(LIBBASE)
$(BUILD)/tests/unit/server/%.o: CPPFLAGS += $(LLHTTP_DEF) -isystem $(LLHTTP_INC)
$(UNIT): $(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(call obj,$(UNIT_HELP))
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(BUILD)/tests/unit/$*.o $(call obj,$(UNIT_HELP)) \
	  $(UNIT_LINK_$(firstword $(subst /, ,$*))) -lcmocka
.PHONY: unit
unit: $(UNIT) ## Build the unit tests

# --- benchmark programs: tests/bench/bench_*.c, linked with what they compare -------------------------
BENCH := $(patsubst tests/bench/%.c,$(BUILD)/%,$(call src,tests/bench/bench_*.c))
BENCH_HELP := $(call obj,$(filter-out tests/bench/bench_%.c,$(call src,tests/bench/*.c)))
$(BENCH): $(BUILD)/bench_%: $(BUILD)/tests/bench/bench_%.o $(BENCH_HELP) $(LIBSTORAGE) $(LIBINDEX) $(LIBBASE) $(FAISS_C)
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBSTORAGE) $(LIBINDEX) $(LIBBASE) $(LIBS_storage) $(LIBS_index)
.PHONY: bench-programs
bench-programs: $(BENCH)

include $(sort $(wildcard tests/*/*.mk))

# --- faults: the campaigns against storage, and the layer between a program and its disk ---------------
FAULT_C := $(call src,tests/fault/*.c)
$(BUILD)/fault: $(call obj,$(FAULT_C)) $(LIBSTORAGE) $(LIBBASE)
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBSTORAGE) $(LIBBASE) $(LIBS_storage)
$(BUILD)/fault-shim.so: $(BUILD)/tests/fault/shim.o
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -shared -o $@ $^
.PHONY: fault-programs
fault-programs: $(BUILD)/fault $(BUILD)/fault-shim.so

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# --- what people type -----------------------------------------------------------------------------
.PHONY: deps help clean test lint demo serve bench bench-large eval eval-quick interop install install-files deb sbom asan ubsan tsan clang
deps: ## Install the Debian packages that are missing (root)
	@sh .ci/deps.sh

test: deps ## Install what is missing, build, run all tests
	$(Q)$(MAKE) --no-print-directory -j2 all unit fault-programs
	/usr/bin/python3 tests/run.py --build $(BUILD)

asan ubsan tsan: deps ## All tests under a sanitizer, in a build folder of its own
	$(Q)$(MAKE) --no-print-directory -j2 FLAVOUR=$@ all unit fault-programs
	/usr/bin/python3 tests/run.py --build build/$@ --flavour $@

clang: deps ## Compile everything with clang as well (build/clang)
	$(Q)$(MAKE) --no-print-directory -j2 CC=clang BUILD=build/clang all unit

lint: deps ## Include direction, symbols, names, headers, shell and Python style
	$(Q)$(MAKE) --no-print-directory -j2 all
	sh tests/lint/run.sh $(BUILD)

demo: deps ## The main job on real input: train, encode, ingest, ask
	$(Q)$(MAKE) --no-print-directory -j2 all
	sh client/demo/demo.sh $(BUILD)

serve: deps ## Serve the demo's store
	$(Q)$(MAKE) --no-print-directory -j2 all
	sh client/demo/serve.sh $(BUILD)

bench: deps ## Engines beside their peers, ingest, latency (5 minutes; the data once)
	@sh .ci/deps.sh python3-faiss || echo "going on without it"
	$(Q)$(MAKE) --no-print-directory -j2 all bench-programs
	sh tests/bench/run.sh $(BUILD) standard

bench-large: deps ## The same at 65,536 dimensions, scaling, a store larger than memory
	@sh .ci/deps.sh python3-faiss || echo "going on without it"
	$(Q)$(MAKE) --no-print-directory -j2 all bench-programs
	sh tests/bench/run.sh $(BUILD) large

eval: ## Attribution against facts and tail-patch: the paper's evaluation (under an hour)
	@sh .ci/deps.sh gnuplot-nox
	$(Q)$(MAKE) --no-print-directory -j2 all
	/usr/bin/python3 tests/eval/run.py --build $(BUILD)

eval-quick: deps ## The same with a small model (2 minutes): checks orderings far outside the noise
	$(Q)$(MAKE) --no-print-directory -j2 all
	/usr/bin/python3 tests/eval/run.py --quick --build $(BUILD)

# How sure is it? (docs/reliability.md)
.PHONY: fault campaign plants
HOURS ?= 1
SEED  ?= $(shell date +%s)
fault: deps ## Kills, errors, power cuts, damage, planted faults: what ten minutes find
	$(Q)$(MAKE) --no-print-directory -j2 all fault-programs
	/usr/bin/python3 tests/fault/run.py --build $(BUILD) --seed $(SEED)
	$(Q)$(MAKE) --no-print-directory plants

campaign: deps ## The same for HOURS= hours, with new seeds, into tests/fault/ledger.jsonl
	$(Q)$(MAKE) --no-print-directory -j2 all fault-programs
	/usr/bin/python3 tests/fault/run.py --build $(BUILD) --seed $(SEED) --hours $(HOURS)

plants: deps ## Faults planted on purpose (build/plant): the score of the tests that must catch them
	$(Q)$(MAKE) --no-print-directory -j2 FLAVOUR=plant all unit fault-programs
	/usr/bin/python3 tests/fault/plants.py --build build/plant

interop: all ## bergson installed from the Python registry, its stores imported, its scores beside ours
	$(Q)ASCRIBE_BUILD=$(BUILD) sh tests/interop/run.sh

install: all ## Install to $(DESTDIR)$(PREFIX)
	$(Q)$(MAKE) --no-print-directory install-files

# What is built, where it belongs: `make deb` installs it elsewhere.
LIBDIR ?= $(PREFIX)/lib
MANDIR ?= $(PREFIX)/share/man
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
install-files:
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include \
	  $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR)
	install -m755 $(BUILD)/ascribed $(BUILD)/ascribe $(BUILD)/ascribe-lm $(DESTDIR)$(PREFIX)/bin/
	install -m644 $(LIBASCRIBE) $(DESTDIR)$(LIBDIR)/
	install -m755 $(BUILD)/libascribe.so.1 $(DESTDIR)$(LIBDIR)/
	ln -sf libascribe.so.1 $(DESTDIR)$(LIBDIR)/libascribe.so
	install -m644 client/ascribe.h $(DESTDIR)$(PREFIX)/include/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' client/ascribe.pc.in \
	  > $(DESTDIR)$(LIBDIR)/pkgconfig/ascribe.pc
	install -m644 docs/man/*.1 $(DESTDIR)$(MANDIR)/man1/
	install -m644 docs/man/*.8 $(DESTDIR)$(MANDIR)/man8/
	$(BUILD)/ascribe completion bash > $(DESTDIR)$(BASHDIR)/ascribe
	$(BUILD)/ascribe completion zsh > $(DESTDIR)$(ZSHDIR)/_ascribe

deb: deps ## A Debian package: build/deb/ascribe_VERSION_ARCH.deb
	$(Q)$(MAKE) --no-print-directory -j2 all
	$(Q)sh docs/ops/debian/build.sh $(BUILD) $(VERSION) build/deb

sbom: deps ## A bill of materials, SPDX 2.3: build/sbom/ascribe.spdx.json
	$(Q)$(MAKE) --no-print-directory -j2 all
	@mkdir -p build/sbom
	$(Q)/usr/bin/python3 docs/ops/sbom.py $(BUILD) $(VERSION) > build/sbom/ascribe.spdx.json
	@echo build/sbom/ascribe.spdx.json

clean: ## Remove build/ (the trained demo model too)
	rm -rf build

help: ## This list
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(filter-out %.d,$(MAKEFILE_LIST))
