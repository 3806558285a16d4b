"""What pages consist of."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "source", "input", "br"}


class Elements(HTMLParser):
    """Elements of a page with their attributes, its text, and whether every element ends where it should."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text, self.open = [], "", []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag == "line" or tag == "rect" or tag == "circle":  # they end themselves
            assert self.open.pop() == tag
            return
        assert self.open.pop() == tag, f"{tag} ends within {self.open}"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def assert_loads_nothing(page):
    elements = Elements(page)
    for tag, attributes in elements.found:
        for key in ("src", "srcset", "href", "data", "action"):
            assert attributes.get(key, "#").startswith(("#", "data:")), (tag, attributes[key][:80])
        assert not [key for key in attributes if key.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", page)
    (policy,) = [meta["content"] for meta in elements.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    return elements
