from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doorward.chat.markdown import MAX_CELLS_MADE_UP, Budget, Growing, render, render_growing

ALLOWED = {
    "a": {"href", "rel", "target"},
    "code": {"class"},
    "ol": {"start"},
    "td": {"align"},
    "th": {"align"},
}
TAGS = {
    *("blockquote", "br", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "ul"),
    *("a", "code", "em", "s", "strong", "table", "tbody", "td", "th", "thead", "tr"),
}


class Reader(HTMLParser):
    """Every tag of a fragment, and what is wrong with it."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.links: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        foreign = {name for name, _ in attrs} - ALLOWED.get(tag, set())
        if tag not in TAGS or foreign:
            self.wrong.append(self.get_starttag_text() or tag)
        if tag == "a":
            self.links.append(dict(attrs))

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}")


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**b** *e* ~~s~~ `c`", "<p><strong>b</strong> <em>e</em> <s>s</s> <code>c</code></p>\n"),
        ("one\ntwo", "<p>one<br>\ntwo</p>\n"),
        ("# one\n###### six", "<h3>one</h3>\n<h6>six</h6>\n"),
        ("```py\nx < 1\n```", '<pre><code class="language-py">x &lt; 1\n</code></pre>\n'),
        ("```c++ title=1\nx\n```", '<pre><code class="language-c++">x\n</code></pre>\n'),
        ('```x"onload=1\ny\n```', "<pre><code>y\n</code></pre>\n"),
        ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>\n'),
        ("<b onclick=x>raw</b>", "<p>&lt;b onclick=x&gt;raw&lt;/b&gt;</p>\n"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
        ("half \ud83d a pair", "<p>half ? a pair</p>\n"),
        ("", ""),
    ],
)
def test_what_a_text_becomes(text: str, html: str) -> None:
    assert render(text) == html


def test_a_table_keeps_its_alignment_without_a_style() -> None:
    html = render("| a | b |\n|---|--:|\n| 1 | 2 |")
    assert '<th>a</th>\n<th align="right">b</th>' in html
    assert '<td align="right">2</td>' in html
    assert "style" not in html


def test_a_link_opens_another_tab_and_passes_nothing_on() -> None:
    (link,) = read(render('[x](https://example.org/a?b=1&c=2 "title")')).links
    assert link == {
        "href": "https://example.org/a?b=1&c=2",
        "target": "_blank",
        "rel": "noopener noreferrer nofollow",
    }


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "/rel", "//host/x", "file:///x", "#a"])
def test_no_other_address_can_be_followed(address: str) -> None:
    assert not any(link.get("href") for link in read(render(f"[x]({address}) ![i]({address}) <{address}>")).links)


def test_an_image_is_a_link_to_it() -> None:
    html = render("![a <b> c](https://example.org/i.png) ![](https://example.org/j.png)")
    assert [link["href"] for link in read(html).links] == ["https://example.org/i.png", "https://example.org/j.png"]
    assert ">a &lt;b&gt; c</a>" in html
    assert ">https://example.org/j.png</a>" in html


def test_an_image_in_a_link_is_its_words() -> None:
    html = render("[![the words](https://example.org/i.png)](https://example.org/)")
    assert [link["href"] for link in read(html).links] == ["https://example.org/"]
    assert ">the words</a>" in html


def test_a_table_whose_rows_lack_cells_ends_before_it_takes_seconds() -> None:
    wide = "a|" * 200 + "\n" + "-|" * 200 + "\n" + "a\n" * 5_000
    for html in (render(wide, Budget(60.0)), render_growing(wide, Budget(60.0)).html):
        assert html.count("<td>") <= MAX_CELLS_MADE_UP + 100
        assert html.count("<table>") == 1
        assert html.count("a<br>") > 4_000, "the rest stays as it is written"


@pytest.mark.parametrize(
    "text",
    [
        "![" * 30_000,
        "[a\n" * 20_000,
        ("|a" * 60 + "|\n" + "|-" * 60 + "|\n" + "|b\n" * 60 + "\n") * 150,
        "*a_ " * 15_000,
    ],
    ids=["images", "links over lines", "many tables", "emphasis"],
)
def test_a_text_that_takes_too_long_comes_as_it_is_written(text: str) -> None:
    html = render(text, Budget(0.05))
    assert re.sub("</?p>|<br>", "", html) == text
    assert render_growing(text, Budget(0.05)) == Growing(html, 0, 0)


def test_texts_share_a_budget_and_what_is_written_acts_in_no_way() -> None:
    spent = Budget(0.0)
    assert render("*a* <script>\nb", spent) == "<p>*a* &lt;script&gt;<br>\nb</p>"
    assert render("*a*", Budget(60.0)) == "<p><em>a</em></p>\n"
    assert render("*a*", spent) == "<p>*a*</p>"


def test_deep_nesting_ends() -> None:
    assert render("> " * 5_000 + "x").count("<blockquote>") <= 20


PIECES = st.sampled_from(
    [
        *"<>&\"'`*_~[]()!|-#:\\\n \t=/x",
        *("<script>", "</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "<!--", "-->", "<style>"),
        *("javascript:alert(1)", "data:text/html,", "https://example.org/", "&#106;avascript:", "&lt;", "&quot;"),
        *(
            "```",
            "```html\n",
            "~~~ ",
            "|a|b|\n|-|-:|\n",
            "](",
            "![",
            "<a href=",
            'onclick="x"',
            "<details open ontoggle=",
        ),
        *("\x00", "\ufeff", "\u202e", "\ud83d", "<math><mi>", "<noscript>", "<template>", "]]>", "<?x?>"),
    ]
)


@given(st.lists(PIECES | st.text(max_size=8), max_size=40).map("".join))
@example("<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>")
@example('[x](https://example.org/"onmouseover="alert(1))')
@example("![x](https://example.org/'onerror='alert(1))")
@settings(max_examples=600, deadline=None)
def test_nothing_that_acts_comes_out_whatever_goes_in(text: str) -> None:
    read_back = read(render(text))
    assert read_back.wrong == []
    for link in read_back.links:
        assert (link.get("href") or "https:").split(":")[0] in {"http", "https", "mailto"}
        assert link["rel"] == "noopener noreferrer nofollow"


# ------------------------------------------------------------------------------------------------- a text that grows

LINES = st.sampled_from(
    [
        *(
            "",
            "",
            "words",
            "more words",
            "# heading",
            "#",
            "---",
            "===",
            "- item",
            "-",
            "  - deeper",
            "    indented",
            "1. one",
            "2) two",
        ),
        *(
            "> quote",
            ">",
            "a | b",
            "|---|--:|",
            "--- | ---",
            "| 1 | 2 |",
            "```",
            "~~~py",
            "````",
            "<b>",
            "\ttab",
            "*",
            "* * *",
            "\\",
        ),
    ]
)
GROWN = st.lists(LINES, max_size=14).flatmap(
    lambda lines: st.sampled_from(["\n", "\r\n", "\r"]).map(lambda ending: ending.join(lines))
)
NEWLINE = re.compile(r"\r\n?|\n")


def top_level(html: str) -> list[str]:
    """The top-level elements, as a browser would count them."""
    found: list[str] = []
    depth = start = 0
    for tag in re.finditer(r"<(/?)(\w+)[^>]*>", html):
        change = 0 if tag[2] in {"br", "hr"} else -1 if tag[1] else 1
        if depth == 0 and change >= 0:
            start = tag.start()
        depth += change
        if depth == 0:
            found.append(html[start : tag.end()])
    return found


def shown_piece_by_piece(text: str, cuts: list[int]) -> list[str]:
    """What a reader has in the end who asks at each cut for what is not settled yet."""
    settled: list[str] = []
    shown: list[str] = []
    begins = 0
    for cut in [*sorted(min(cut, len(text)) for cut in cuts), len(text)]:
        rest = text[begins:cut]
        rendered = render_growing(rest)
        elements = top_level(rendered.html)
        shown = [*settled, *elements]
        settled += elements[: rendered.settled_elements]
        if rendered.settled_lines:
            begins += [match.end() for match in NEWLINE.finditer(rest)][rendered.settled_lines - 1]
    return shown


def test_what_is_settled_is_what_was_closed_by_a_block_behind_it() -> None:
    grown = render_growing("# one\n\ntwo\n\n- three\n- fo")
    assert (grown.settled_lines, grown.settled_elements) == (4, 2)
    assert grown.html == render("# one\n\ntwo\n\n- three\n- fo")


@pytest.mark.parametrize("text", ["one", "one\n", "one\n\n", "one\n\ntwo", "- a\n\n  b", "one\n#", "a\nb | c\n---", ""])
def test_what_can_still_change_is_not_settled(text: str) -> None:
    assert render_growing(text).settled_elements == 0


@given(GROWN, st.lists(st.integers(0, 200), max_size=6))
@example("a\nb | c\n---", [12])
@example("Items:\n- one", [8])
@example("- a\n\n1. b", [6])
@example("one\r\n\r\ntwo\r\n\r\nthree", [6, 11])
def test_piece_by_piece_is_as_in_one_piece(text: str, cuts: list[int]) -> None:
    assert shown_piece_by_piece(text, cuts) == top_level(render(text))


def test_an_address_that_was_given_above_is_known_below() -> None:
    assert render_growing("[1]: https://example.org/x\n\none\n\n[two][1]").html.count("<a ") == 1
