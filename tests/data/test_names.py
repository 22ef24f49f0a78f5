"""Names of classes that look alike."""

import pytest

from ppfsl.data.names import check_names
from ppfsl.errors import UserError


def test_names_that_differ_to_the_eye_are_taken() -> None:
    check_names(["tulip", "Tulip", "tulip 2", "花", "\N{CJK COMPATIBILITY IDEOGRAPH-F900}", ""], "here")


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}", "'caf\\xe9' and 'cafe\\u0301'"),
        ("tulip", " tulip ", "'tulip' and ' tulip '"),
    ],
)
def test_names_that_look_alike_are_both_named(one: str, other: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        check_names(["rose", one, "lily", other], "here")
    assert str(caught.value) == f"here: the class names {words} look alike; spell them in one way, or rename one"
