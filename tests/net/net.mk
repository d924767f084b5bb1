.PHONY: net
net: deps ## Hostile clients beside a good one, smuggling, bad networks, overload, drains (10 minutes)
	@sh .ci/deps.sh nginx-light slowhttptest || echo "going on without them"
	$(Q)$(MAKE) --no-print-directory -j2 all
	/usr/bin/python3 tests/net/run.py --build $(BUILD) --seed $(SEED)
