"""What a browser would see of a page, and that it needs nothing but itself."""

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image


class Reader(HTMLParser):
    """Tags with their attributes, and text; every tag must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self.text += " "

    def handle_data(self, data):
        self.text += data

    @property
    def charts(self) -> list[str | None]:
        """The descriptions of the charts."""
        return [one["alt"] for tag, one in self.tags if tag == "img" and "chart" in (one.get("class") or "")]

    def count(self, tag: str) -> int:
        return sum(one == tag for one, _ in self.tags)


def assert_self_contained(page: str) -> None:
    tags = Reader(page).tags
    assert {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "base"} == set()
    for tag, attributes in tags:
        assert set(attributes) & {"href", "srcset", "data", "style"} == set()
        assert not any(name.startswith("on") for name in attributes)
        assert tag == "img" or "src" not in attributes
        if tag == "img":
            kind, _, content = attributes["src"].partition(",")
            assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
            with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
                picture.load()
                assert min(picture.size) > (100 if "chart" in (attributes.get("class") or "") else 0)
            assert attributes["alt"]
    without_pictures = re.sub(r'src="[^"]*"', "", page)
    assert not re.search(r"https?:|//|@import|url\(", without_pictures)
