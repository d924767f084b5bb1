"""progress.py - a bar while something takes long: tqdm where it is installed, else a plain line.

None of it is needed for the work: without a terminal or a notebook nothing is shown unless asked.
"""
from __future__ import annotations

import sys
import time
import warnings
from typing import Any, Optional


def _wanted(asked: Optional[bool]) -> bool:
    if asked is not None:
        return asked
    return "ipykernel" in sys.modules or sys.stderr.isatty()


class Progress:
    """`with Progress("ingest", total=rows) as bar: bar.add(500)`. asked: True, False, or None for
    "where somebody is looking". A total of None is unknown."""

    def __init__(self, what: str, total: Optional[float] = None, asked: Optional[bool] = None,
                 unit: str = "rows"):
        self.what, self.total, self.unit = what, total, unit
        self.done, self.begun, self.shown = 0.0, time.monotonic(), 0.0
        self.plain = False
        self.bar: Any = None
        if not _wanted(asked):
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tqdm's own, about notebooks without widgets
                from tqdm.auto import tqdm  # type: ignore
        except ImportError:
            self.plain = True
            return
        self.bar = tqdm(total=total, desc=what, unit=" " + unit, leave=True)

    def add(self, amount: float, note: str = "") -> None:
        """So much more is done."""
        self.done += amount
        if self.bar is not None:
            if note:
                self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(amount)
        elif self.plain and time.monotonic() - self.shown >= 0.5:
            self._line(note)

    def reach(self, amount: float, note: str = "") -> None:
        """So much is done in all."""
        self.add(amount - self.done, note)

    def _line(self, note: str, end: str = "") -> None:
        self.shown = time.monotonic()
        rate = self.done / max(self.shown - self.begun, 1e-9)
        of = f" of {self.total:g}" if self.total is not None else ""
        sys.stderr.write(f"\r{self.what}: {self.done:g}{of} {self.unit}, {rate:.3g}/s {note}"
                         f"\x1b[K{end}")
        sys.stderr.flush()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.plain:
            self._line("", "\n")
        self.plain, self.bar = False, None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *unused: Any) -> None:
        self.close()
