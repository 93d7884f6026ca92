"""tools/doc_table.py: only what lies between the marks changes."""

import pytest

from core.errors import TTDError
from tools.doc_table import update

MARKS = ("<!-- here -->", "<!-- there -->")


def test_the_table_is_replaced_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before é\n<!-- here -->\nold\n<!-- there -->\nafter\n", encoding="utf-8")
    for text in ("new\nlines\n", "newer\n"):
        update(page, MARKS, text)
        assert (
            page.read_text(encoding="utf-8")
            == f"before é\n<!-- here -->\n{text}<!-- there -->\nafter\n"
        )


@pytest.mark.parametrize("content", ["text", "<!-- here -->", "<!-- there --> <!-- here -->"])
def test_a_file_without_marks_is_not_touched(tmp_path, content):
    page = tmp_path / "page.md"
    page.write_text(content)
    with pytest.raises(TTDError, match="no lines"):
        update(page, MARKS, "table")
    assert page.read_text() == content


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TTDError, match="page.md: cannot be read"):
        update(tmp_path / "page.md", MARKS, "table")
