"""Which texts are removed: sets in several languages, phrases, expressions, and their mistakes."""

from __future__ import annotations

import pytest

from manifests.errors import RecipeError
from stages.detection.matcher import Matcher
from stages.detection.options import TextOptions
from stages.recipe import Recipe

DEFAULT = Matcher(TextOptions().remove)

#: Set -> texts, divided by ``|``.
FOUND = {
    "prices": "€12,99|12.99 €|1.299,00 EUR|US$ 5|£5|49,99 zł|¥1,280|1280円|12,-|CHF 12.50|R$ 49,90"
    "|jetzt nur 9,99|O,99 €|l2,99€|RS49,90|19,90 C",
    "percentages": "-20 %|20% OFF|bis zu 50 %|Soldes -30%|-3O%|50%|５折|30%オフ",
    "promotions": "SALE|5ALE|Super SALE!|Sonderangebot|S0LDES|Nouveauté|Rebajas|Más vendido"
    "|Offerta speciale|Uitverkoop|Promoção|WYPRZEDAŻ|Nowość|NEW!|特价|セール"
    "|SUMMERSALE|Best-Seller|Sonderangebat|Promocao",
    "shipping": "FREE SHIPPING|FREESHIPPING|free sh1pping|Gratis-Versand|Livraison gratuite"
    "|ENVÍO GRATIS|Spedizione gratuita|gratis verzending|Frete grátis|Darmowa tostaway."
    "|包邮|送料無料",
    "urls": "www.example-shop.com|http://x.example/a|myshop.de",
    "emails": "info@example.com",
    "phones": "+49 30 1234567|Tel. 030/123456|0800 123 456 7|(555) 123-4567",
    "social": "@myshop|#newcollection|Instagram: myshop|folge uns",
    "copyright": "© 2024 Example|Photo by Jo|shutterstock|All rights reserved",
}

LEFT = (
    "wholesale|New York|100% cotton|EUR 42|Nike Air|MADE IN USA|Est. 1985|12:30|2,00 ml|5.0|#1"
    "|SIZE 42|4 006381 333931|No. 5|XL|Newton|Dr. Oetker|4711|H&M|80 mm|iPhone 12|Aktionär"
    "|Salewa|COLLECTION"
)


@pytest.mark.parametrize("name", FOUND)
def test_the_texts_of_each_set_are_found_in_its_languages(name: str) -> None:
    matcher = Matcher([name])
    assert [text for text in FOUND[name].split("|") if matcher.find([text]) != [name]] == []
    assert [text for text in FOUND[name].split("|") if not DEFAULT.find([text])[0]] == []


def test_what_products_say_is_left() -> None:
    assert {text: found for text in LEFT.split("|") if (found := DEFAULT.find([text])[0])} == {}


def test_a_phrase_may_run_over_several_lines() -> None:
    assert DEFAULT.find(["FREE", "SHIPPING", "Nike"]) == ["shipping", "shipping", ""]
    assert DEFAULT.find(["UP TO", "50%"]) == ["percentages"] * 2
    assert DEFAULT.find(["bis", "zu 50 %", "Nike"]) == ["percentages", "percentages", ""]
    assert DEFAULT.find(["12", "€"]) == ["prices"] * 2


def test_words_are_compared_without_case_accents_and_spaces_but_as_whole_words() -> None:
    matcher = Matcher(["Déjà vu", "word:price", "/^no\\. \\d+$/"])
    texts = ["DEJAVU", "deja-vu!", "dejavus", "The Price", "NO. 5", "no. five"]
    assert matcher.find(texts) == ["Déjà vu", "Déjà vu", "", "price", "/^no\\. \\d+$/", ""]
    assert Matcher(["/^nike/"]).find(["NEW", "NIKE AIR -50%", "AIR NIKE"]) == ["", "/^nike/", ""]
    assert Matcher(["all"]).find(["anything"]) == ["all"]


@pytest.mark.parametrize(
    ("entry", "in_words", "as_words"),
    [
        ("-5%", ["95% cotton", "15%"], ["-5%", "now 5%"]),
        ("- SALE -", ["wholesale"], ["sale", "-- Sale --"]),
        ("New-", ["newer", "anew"], ["new", "new-in"]),
        ("50\u20ac", ["150\u20ac"], ["50\u20ac"]),
        (
            "\u0430\u043a\u0446\u0438\u044f",
            ["\u0440\u0435\u0430\u043a\u0446\u0438\u044f"],
            ["\u0410\u041a\u0426\u0418\u042f!"],
        ),
        ("\u5305\u90ae", ["\u5305"], ["\u5168\u573a\u5305\u90ae"]),
        ("SALE", ["wholesale"], ["\u9650\u65f6SALE\u4e2d"]),
        (
            "\u0e25\u0e14\u0e23\u0e32\u0e04\u0e32",
            ["\u0e25\u0e14"],
            ["\u0e40\u0e23\u0e32\u0e25\u0e14\u0e23\u0e32\u0e04\u0e32"],
        ),
    ],
)
def test_a_phrase_matches_whole_words_where_its_script_has_spaces(
    entry: str, in_words: list[str], as_words: list[str]
) -> None:
    for line in in_words + as_words:
        assert Matcher([entry]).find([line]) == [entry if line in as_words else ""]


@pytest.mark.parametrize("name", [*FOUND, "dates", "sizes", "all"])
def test_a_word_that_is_called_like_a_set_can_be_written(name: str) -> None:
    assert Matcher([f"word:{name}"]).find([f"Our {name}!", "€ 5"]) == [name, ""]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("price", "did you mean prices?"),
        ("shiping", "did you mean shipping?"),
        ("/[/", "is not a regular expression"),
        (" ", "has no text"),
        ("-", "has no text"),
        ("word:-- -", "has no text"),
    ],
)
def test_a_mistaken_entry_is_named_with_its_remedy(entry: str, says: str) -> None:
    with pytest.raises(RecipeError, match=r"detect\.remove") as caught:
        Recipe.load("declutter", {"detect.remove": [entry]})
    assert says in str(caught.value)


def test_a_single_entry_may_be_a_string() -> None:
    recipe = Recipe.load("declutter", ["detect.remove=prices", "detect.keep=nike air"])
    assert isinstance(recipe.detect, TextOptions)
    assert (recipe.detect.remove, recipe.detect.keep) == (("prices",), ("nike air",))
