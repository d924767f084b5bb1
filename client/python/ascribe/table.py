"""table.py - a small table, as text for a terminal and as HTML for a notebook.

Texts come from training data: in HTML everything is escaped, in text control characters are not
passed to the terminal.
"""
from __future__ import annotations

import html
import shutil
import unicodedata
from typing import List, Sequence


def plain(text: str) -> str:
    """One line without control characters."""
    return "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)


def clip(text: str, width: int) -> str:
    """At most `width` columns; what was cut ends in an ellipsis."""
    text = " ".join(plain(text).split())
    return text if len(text) <= width else text[:max(width - 1, 0)] + "…"


class Table:
    """A title, column heads, and rows of strings. The last column takes what width is left."""

    def __init__(self, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]):
        self.title, self.heads, self.rows = title, list(heads), [list(r) for r in rows]

    def text(self, width: int = 0) -> str:
        width = width or shutil.get_terminal_size((100, 24)).columns
        rows = [[clip(cell, 64) for cell in row[:-1]] + [row[-1]]
                for row in [self.heads] + self.rows]
        wide = [max(len(row[i]) for row in rows) for i in range(len(self.heads) - 1)]
        left = max(width - sum(wide) - 2 * len(wide), 20)
        lines: List[str] = [self.title] if self.title else []
        for row in rows:
            cells = [cell.ljust(w) for cell, w in zip(row, wide)]
            lines.append("  ".join(cells + [clip(row[-1], left)]).rstrip())
        return "\n".join(lines)

    def html(self) -> str:
        def cells(tag: str, row: Sequence[str]) -> str:
            return "".join(f'<{tag} style="text-align:left;vertical-align:top">'
                           f"{html.escape(plain(cell))}</{tag}>" for cell in row)
        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        return (f"<table><caption style=\"text-align:left\">{html.escape(self.title)}</caption>"
                f"<thead><tr>{cells('th', self.heads)}</tr></thead><tbody>{body}</tbody></table>")
