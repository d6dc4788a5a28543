"""A page of text, tables, charts and pictures."""

import re

from matplotlib.figure import Figure
from pages_for_tests import Reader, assert_self_contained

from plainvision.figures.page import Page


def test_a_page_shows_text_as_it_is_written(tmp_path):
    page = Page("1 < 2 & <b>", '`x < y` is "code"')
    page.heading("<h1>")
    page.paragraph("a `b` c <script>alert()</script>")
    page.table([{"": "<i>", "a&b": "1"}, {"": "x", "a&b": "`2`"}])
    page.figure(Figure(figsize=(2, 2)), 'a "figure" & <more>')
    page.footer("<end>")
    page.write(tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert_self_contained(written)
    reader = Reader(written)
    assert "a b c <script>alert()</script>" in reader.text
    assert '1 < 2 & <b> x < y is "code" <h1>' in reader.text
    assert "a&b <i> 1 x 2 <end>" in re.sub(r" +", " ", reader.text)
    assert [tag for tag, _ in reader.tags].count("code") == 3
    assert reader.charts == ['a "figure" & <more>']
