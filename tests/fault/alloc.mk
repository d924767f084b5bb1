# Allocation failures: a layer between a program and its memory (docs/reliability.md).
ALLOC_SHIM  := $(BUILD)/alloc-shim.so
ALLOC       := $(BUILD)/alloc
ALLOC_TRACE := $(call obj,$(addprefix tests/fault/,trace.c content.c look.c))
$(ALLOC_SHIM): $(BUILD)/tests/fault/alloc/shim.o
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -shared -o $@ $^ -ldl
$(ALLOC): $(call obj,$(call src,tests/fault/alloc/*.c)) $(ALLOC_TRACE) $(LIBSTORAGE) $(LIBBASE)
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -rdynamic -o $@ $(filter %.o,$^) $(LIBSTORAGE) $(LIBBASE) $(LIBS_storage) -ldl
fault-programs: $(ALLOC_SHIM) $(ALLOC)
