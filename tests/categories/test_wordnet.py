"""WordNet strategies: the right sense, never two; and access to WordNet."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import nltk
import pytest

from semscale.categories import Ladder, LadderSpec, build_ladder, wordnet_data
from semscale.common.errors import SemscaleError

CATS = {"senses": {"cat": "cat.n.01"}}

if wordnet_data.find_wordnet() is None:
    pytest.skip(f"needs WordNet: {wordnet_data.INSTALL_HINT}", allow_module_level=True)


@pytest.fixture(autouse=True, scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(nltk.data, "path", list(nltk.data.path))
        yield folder / "semscale" / "nltk_data"


def build(classes: list[str], strategy: str = "wordnet", domain: str = "animal", **options: object) -> Ladder:
    for steps in range(12, 0, -1):
        try:
            return build_ladder(LadderSpec("d", classes, domain, strategy, steps, options=options, short="stay"))
        except SemscaleError as error:
            if not error.what.startswith("more steps"):
                raise
    raise AssertionError("no ladder of one step")


def texts(ladder: Ladder, name: str) -> tuple[str, ...]:
    return tuple(ladder.steps[-1].categories[name])


def test_the_domain_decides_the_sense() -> None:
    assert texts(build(["dog", "stork"], domain="animal"), "dog") == ("dog", "domestic dog", "Canis familiaris")
    frank = ("dog", "frank", "frankfurter", "hotdog", "hot dog", "wiener", "wienerwurst", "weenie")
    assert texts(build(["dog", "pizza"], domain="food"), "dog") == frank
    bird = build(["crane", "stork"], "wordnet-hyponyms", domain="bird")
    assert texts(bird, "crane") == ("crane", "whooping crane", "whooper", "Grus americana")
    assert "whooping_crane.n.01" in bird.provenance["crane"][1]


def test_a_given_synset_and_a_hypernym_decide_too() -> None:
    given = build(["crane", "pulley"], "wordnet-hyponyms", domain="thing", senses={"crane": "crane.n.04"})
    assert "derrick" in texts(given, "crane")
    assert "whooping crane" not in texts(given, "crane")
    above = build(["crane", "stork"], "wordnet-hyponyms", domain="thing", hypernym="bird.n.01")
    assert "whooping crane" in texts(above, "crane")


def test_an_ambiguous_class_is_refused_with_its_senses() -> None:
    with pytest.raises(SemscaleError, match="2 classes have several senses") as caught:
        build(["Seahorse", "cat", "zebra"])
    message = str(caught.value)
    # the most frequent sense of "seahorse" is the walrus: a guess would be wrong
    assert all(sense in message for sense in ("walrus.n.01", "seahorse.n.02", "cat.n.01", "big_cat.n.01"))
    assert "zebra" not in message
    assert "{Seahorse: walrus.n.01, cat: cat.n.01}" in message
    assert "house cat" not in texts(build(["cat", "zebra"], **CATS), "cat")
    assert texts(build(["Seahorse", "zebra"], ambiguous="first"), "Seahorse") == ("Seahorse", "walrus", "sea horse")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"senses": {"dog": "dog.n.99"}}, "no such synset"),
        ({"senses": {"dog": "nonsense"}}, "no such synset"),
        ({"senses": {"dog": 3}}, "no such synset"),
        ({"senses": {"horse": "horse.n.01"}}, "an unknown class"),
        ({"senses": ["dog.n.01"]}, "'senses' is invalid"),
        ({"hypernym": "food.n.77"}, "no such synset"),
        ({"hypernym": "building.n.01"}, "several senses|a class has"),
        ({"ambiguous": "guess"}, "'ambiguous' is invalid"),
        ({"sense": {}}, "does not take this option"),
    ],
)
def test_wrong_choices_of_senses_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SemscaleError, match=message):
        build(["dog", "zebra"], **options)


def test_the_error_of_an_unknown_synset_lists_the_senses_of_the_class() -> None:
    with pytest.raises(SemscaleError) as caught:
        build(["dog", "zebra"], senses={"dog": "dog.n.99"})
    assert "frank.n.02" in str(caught.value.expected)


def test_names_are_found_in_the_plural_with_underscores_and_case() -> None:
    made = build(["Fire_Truck", "jet ski", "qwertz"], domain="vehicle")
    assert "fire engine" in texts(made, "Fire_Truck")
    assert texts(made, "qwertz") == ("qwertz",), "a class that WordNet does not know has its name only"
    assert made.notes
    assert "insect" in " ".join(texts(build(["bees", "snail"], "wordnet-hypernyms", ambiguous="first"), "bees"))


def test_hyponyms_are_nearest_first_and_shared_words_are_refused() -> None:
    made = build(["dog", "horse"], "wordnet-hyponyms")
    assert texts(made, "dog")[:2] == ("dog", "puppy")
    with pytest.raises(SemscaleError, match="two classes") as caught:
        build_ladder(LadderSpec("d", ["cat", "dog"], "animal", "wordnet-hyponyms", 80, options=CATS, short="stay"))
    assert "Maltese" in str(caught.value)


def test_hypernyms_of_several_classes_are_left_out() -> None:
    made = build(["cat", "dog", "sparrow"], "wordnet-hypernyms", ambiguous="first", **CATS)
    assert texts(made, "cat") == ("cat", "feline", "felid")
    assert "canine" in texts(made, "dog")
    assert not {"carnivore", "animal", "entity"} & {text for name in made.classes for text in texts(made, name)}


def test_other_languages_need_their_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wordnet_data, "_download", lambda name: False)  # a test does not go to the network
    monkeypatch.setattr(wordnet_data, "_readers", {})
    monkeypatch.setattr(wordnet_data, "_LANGUAGES", ("omw-test",))
    with pytest.raises(SemscaleError, match="Open Multilingual WordNet") as caught:
        build(["dog", "zebra"], "wordnet-languages")
    assert "omw-1.4" in str(caught.value.hint)
    for language, word in (("fra", "chien"), ("deu", "Haus_Hund")):
        folder = tmp_path / "corpora" / "omw-test" / language
        folder.mkdir(parents=True)
        lines = f"# Test\t{language}\thttp://example.org\tCC0\n02084071-n\t{language}:lemma\t{word}\n"
        (folder / f"wn-data-{language}.tab").write_text(lines, encoding="utf-8")
    monkeypatch.setattr(nltk.data, "path", [*nltk.data.path, str(tmp_path)])
    for _ in range(2):
        made = build(["dog", "zebra"], "wordnet-languages")
        assert texts(made, "dog") == ("dog", "Haus Hund", "chien")
    assert made.provenance["dog"][1:] == ("deu for dog.n.01", "fra for dog.n.01")
    assert texts(build(["dog", "zebra"], "wordnet-languages", languages=["fra"]), "dog") == ("dog", "chien")
    with pytest.raises(SemscaleError, match="no data of this language") as unknown:
        build(["dog", "zebra"], "wordnet-languages", languages=["jpn"])
    assert unknown.value.expected == "deu, fra"


@pytest.mark.skipif(not (wordnet_data.SYSTEM_WORDNET / "data.noun").exists(), reason="needs Debian's wordnet-base")
def test_system_files_are_copied_once_to_where_nltk_reads_them(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nltk.data, "path", [])
    wordnet_data.open_wordnet()
    folder = cache_folder / "corpora" / "wordnet"
    before = (folder / "data.noun").stat()
    assert (folder / "lexnames").read_text().count("\n") == 45
    assert nltk.data.path == [str(cache_folder)]
    monkeypatch.setattr(nltk.data, "path", [])
    wordnet_data.open_wordnet()
    assert (folder / "data.noun").stat().st_mtime_ns == before.st_mtime_ns
    assert list(folder.parent.iterdir()) == [folder], "no half copies are left"


def test_nltks_own_data_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zipped = tmp_path / "corpora" / "wordnet.zip"
    zipped.parent.mkdir()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("wordnet/lexnames", wordnet_data.lexnames())
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    assert wordnet_data.find_wordnet() == zipped / "wordnet"
    assert "wordnet.zip" in str(wordnet_data._corpus(["wordnet"]))


def test_without_wordnet_an_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads: list[str] = []
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(wordnet_data, "SYSTEM_WORDNET", tmp_path / "none")
    monkeypatch.setattr(wordnet_data, "_download", lambda name: bool(downloads.append(name)))
    with pytest.raises(SemscaleError, match="not on this machine") as caught:
        build(["dog", "zebra"])
    assert downloads == ["wordnet"]
    assert caught.value.hint == wordnet_data.INSTALL_HINT
    assert wordnet_data.find_wordnet() is None


@pytest.mark.skipif(not (wordnet_data.SYSTEM_WORDNET / "data.noun").exists(), reason="needs Debian's wordnet-base")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "semscale").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(SemscaleError, match="cannot be copied") as caught:
        wordnet_data.open_wordnet()
    assert "XDG_CACHE_HOME" in str(caught.value.hint)
