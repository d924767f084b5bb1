.PHONY: net
net: deps ## Hostile clients beside a good one, smuggling, overload, drains (10 minutes)
	$(Q)$(MAKE) --no-print-directory -j2 all
	/usr/bin/python3 tests/net/run.py --build $(BUILD) --json build/net.jsonl
