.PHONY: soak
MINUTES ?= 10
soak: deps ## Mixed work for MINUTES=10: memory, files, descriptors and times must stay flat
	@sh .ci/deps.sh gnuplot-nox
	$(Q)$(MAKE) --no-print-directory -j2 all
	/usr/bin/python3 tests/soak/run.py --build $(BUILD) --minutes $(MINUTES) --json build/soak.jsonl --svg build/soak.svg
