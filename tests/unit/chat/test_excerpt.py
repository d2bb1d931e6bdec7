from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward.chat.excerpt import CHARACTERS_AFTER, CHARACTERS_BEFORE, Excerpt, excerpt_of

LONG = "one two three four five six seven eight nine ten " * 20


@pytest.mark.parametrize(
    ("text", "words", "excerpt"),
    [
        ("Tell me of the Lighthouse, please", "lighthouse", Excerpt("Tell me of the ", "Lighthouse", ", please")),
        ("the\n\n\tLight  house", "light", Excerpt("the ", "Light", " house")),
        ("Wie heißt die STRASSE?", "straße".casefold(), Excerpt("Wie heißt die ", "STRASSE", "?")),
        ("Die Straße, heißt es", "strasse", Excerpt("Die ", "Straße", ", heißt es")),
        ("aßb", "sb", Excerpt("a", "ßb", "")),
        ("<b>bold</b>", "bold", Excerpt("<b>", "bold", "</b>")),
        ("nothing like it", "lighthouse", None),
    ],
)
def test_what_was_found_with_what_stands_around_it(text: str, words: str, excerpt: Excerpt | None) -> None:
    assert excerpt_of(text, words) == excerpt


def test_of_a_long_text_whole_words_are_shown() -> None:
    excerpt = excerpt_of(f"{LONG}here {LONG}", "here")
    assert excerpt is not None
    assert excerpt.before == "…six seven eight nine ten "
    assert excerpt.after.startswith(" one two three")
    assert excerpt.after.endswith(" eight…")


def test_one_long_word_is_cut() -> None:
    excerpt = excerpt_of("x" * 500 + "here" + "y" * 500, "here")
    assert excerpt == Excerpt("…" + "x" * CHARACTERS_BEFORE, "here", "y" * CHARACTERS_AFTER + "…")


@given(st.text(max_size=20), st.text(min_size=1, max_size=5), st.text(max_size=20))
def test_what_is_in_it_is_found(before: str, words: str, after: str) -> None:
    text = f"{before}{words}{after}"
    excerpt = excerpt_of(text, words.casefold())
    assert excerpt is not None
    assert " ".join(words.casefold().split()) in " ".join(excerpt.match.casefold().split())
