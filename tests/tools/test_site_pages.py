"""Hooks of the documentation's site, without MkDocs."""

import yaml
from paths import ROOT
from site_pages import TOP, from_top, on_config, on_page_markdown, pages_of, parsed_lists


class Config:
    def __init__(self, nav):
        self.nav = nav


def test_every_page_is_in_the_navigation_once():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = list(pages_of(on_config(Config(nav)).nav))
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert sorted(named) == sorted([*pages, *TOP.values()])


def test_a_new_page_comes_last():
    nav = on_config(Config([{"Start": "index.md"}])).nav
    assert nav[0] == {"Start": "index.md"} and "data.md" in nav[1]["More"]
    everything = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert on_config(Config(everything)).nav == everything


def test_links_count_from_the_other_folder():
    text = "[a](docs/x.md#y) ![b](docs/z.png) [c](SECURITY.md) [d](https://h/docs/)"
    assert from_top(text) == "[a](x.md#y) ![b](z.png) [c](SECURITY.md) [d](https://h/docs/)"
    text = on_page_markdown("[a](../README.md) [b](../SECURITY.md) [c](x.md)", None, None, None)
    assert text == "[a](index.md) [b](SECURITY.md) [c](x.md)"


def test_lists_as_the_parser_wants_them():
    given = """text:
- one
  more
  - inner
    - deeper
- two

after
1. first
```
- no list
  - as it is
```
- last"""
    assert (
        "\n".join(parsed_lists(given.split("\n")))
        == """text:

- one
    more
    - inner
        - deeper
- two

after

1. first
```
- no list
  - as it is
```
- last"""
    )


def test_the_site_asks_no_other_server():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert config["theme"]["font"] is False
    assert not {"extra_javascript", "extra"} & set(config)
    style = (ROOT / "docs" / "site.css").read_text()
    assert config["extra_css"] == ["site.css"] and "url(" not in style and "@import" not in style
