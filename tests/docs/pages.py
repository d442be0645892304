"""What the pages hold: fenced blocks with their language, headings with their anchors, and links."""

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A block whose first line begins like this needs weights, an accelerator or a service; the line says which.
NOT_RUN = "# Not run in the tests: "

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|:{3,})(?P<info>.*)$")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^()\s]+)\)")
_CODE = re.compile(r"(`+)(?:.+?)\1", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its first line of text (from 1), its language and its text.

    The language is the word after the fence; of a directive (``{code-cell} python``) it is the directive.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def runs(self) -> bool:
        """Whether the page lets the block run everywhere."""
        return not self.text.lstrip().startswith(NOT_RUN)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README and every page of the site, as paths from the root."""
    site = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
    return ["README.md", *(str(path.relative_to(ROOT)) for path in site)]


def linked_pages() -> list[str]:
    """Every page whose links are checked: also those that lie outside the site."""
    others = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/NOTES.md")
    return [*pages(), *(page for page in others if (ROOT / page).exists())]


def text_of(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page that are not fences of other blocks."""
    found, opened = [], None
    for number, line in enumerate(text_of(page).splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence and fence["fence"][0] == "`":
            words = fence["info"].split()
            opened = (fence["fence"], number + 1, words[0] if words else "", [])
        elif opened and fence and fence["fence"] == opened[0] and not fence["info"].strip():
            _, first, language, lines = opened
            found.append(Block(page, first, language, "\n".join(lines)))
            opened = None
        elif opened:
            opened[3].append(line)
    assert opened is None, f"{page}: the fence above line {opened[1]} is not closed"
    return found


def prose(page: str) -> str:
    """The page without its fenced blocks and without code in lines."""
    lines, fence = [], None
    for line in text_of(page).splitlines():
        found = _FENCE.match(line)
        if found and found["fence"][0] == "`":
            fence = None if fence == found["fence"] else fence or found["fence"]
        elif fence is None:
            lines.append(line)
    return _CODE.sub("", "\n".join(lines))


def links(page: str) -> list[str]:
    """Targets of the links and pictures of a page."""
    return [match["target"] for match in _LINK.finditer(prose(page))]


def anchors(page: str) -> set[str]:
    """The anchors of the headings of a page, as GitHub and MyST make them."""
    found: set[str] = set()
    for line in _headings(page):
        slug = re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def _headings(page: str) -> list[str]:
    lines, fence = [], None
    for line in text_of(page).splitlines():
        found = _FENCE.match(line)
        if found and found["fence"][0] == "`":
            fence = None if fence == found["fence"] else fence or found["fence"]
        elif fence is None and re.match(r"#{1,6} ", line):
            lines.append(line.lstrip("#").replace("`", ""))
    return lines
