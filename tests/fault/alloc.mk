# Allocation failures: a layer in front of a program's memory (docs/reliability.md).
ALLOC_SHIM := $(BUILD)/alloc-shim.so
$(ALLOC_SHIM): $(BUILD)/tests/fault/alloc/shim.o
	$(call say,LINK)
	$(Q)$(CC) $(LDFLAGS) -shared -o $@ $^ -ldl
fault-programs: $(ALLOC_SHIM)
