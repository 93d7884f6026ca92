"""A page from strangers' names: whether anything in it could run or comes from outside."""

import re
from html.parser import HTMLParser

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)> '&\u202e\x00\ud800 javascript:x"
VOID = {"meta", "img", "line", "rect", "polyline", "circle", "br"}


class Reader(HTMLParser):
    """Elements, attributes and text; complains about what is not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.said = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert tag not in VOID and self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


def read(source: str) -> Reader:
    reader = Reader()
    reader.feed(source)
    reader.close()
    assert not reader.open
    return reader


def check_harmless(source: str) -> Reader:
    """No script, no handler, no address but data of images; a policy that forbids them all."""
    reader = read(source)
    names = {name for name, _ in reader.elements}
    assert not names & {"script", "iframe", "object", "embed", "link", "form", "base", "a"}
    for name, attributes in reader.elements:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("src", "href", "action", "xlink:href"):
                assert name == "img" and value.startswith("data:image/jpeg;base64,")
    style = "".join(re.findall(r"<style>(.*?)</style>", source, re.DOTALL))
    assert "url(" not in style and "@import" not in style
    policy = [a["content"] for _, a in reader.elements if a.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    source.encode("utf-8")
    return reader
