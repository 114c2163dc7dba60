"""What a page holds, read with the standard library's parser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "input", "br", "wbr", "link", "base", "hr"}


@dataclass
class Page:
    """Elements with attributes, and the text inside each kind of element."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    inside: dict[str, list[str]] = field(default_factory=dict)
    unclosed: list[str] = field(default_factory=list)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def section(self, anchor: str) -> str:
        return " ".join("".join(self.inside.get(anchor, [])).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.open: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute: {names}"
        attributes = {name: value or "" for name, value in attrs}
        self.page.elements.append((tag, attributes))
        if tag not in {"wbr", "bdi"}:
            self._add(" ")
        if tag not in VOID:
            self.open.append((tag, attributes.get("id")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        opened = self.open.pop()[0] if self.open else None
        if opened != tag:
            self.page.unclosed.append(f"</{tag}> closes <{opened}>")

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.open]
        for kind in ("script", "style"):
            if kind in tags:
                self.page.inside.setdefault(kind, []).append(data)
                return
        self._add(data)

    def _add(self, data: str) -> None:
        self.page.texts.append(data)
        for anchor in filter(None, (name for _, name in self.open)):
            self.page.inside.setdefault(anchor, []).append(data)


def read_page(path: Path) -> Page:
    """Parse a page; elements that aren't closed in order are listed in ``unclosed``."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader.page
