# page.mk - the page in a real browser; part of `make test` as well.
.PHONY: page-test
page-test: deps ## The page in a real browser: every view and state, axe, screenshots in build/page/shots
	$(Q)$(MAKE) --no-print-directory -j2 all
	/usr/bin/python3 tests/run.py --build $(BUILD) --only integration/test_page.py
