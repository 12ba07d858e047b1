"""Settings: their text, equality, fingerprints and refusals; they need no torch."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semscale.common.errors import ConfigError
from semscale.tokens import TokenSetting, find_token_strategy, kept, parse_setting, token_strategy_names


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("select:.50", "select:0.5"),
        ("select:1/3@0/attn", "select:1/3"),
        ("select:0.7@3,6,9/norm+fuse", "select:0.7@3,6,9/norm+fuse"),
        ("select:0.25/random#4+two-pass", "select:0.25/random#4+two-pass"),
        ("clusters:4@1/random#2", "clusters:4@1/random#2"),
        ("registers:1/shift+neurons=20+scale=1.0", "registers:1+neurons=20"),
        ("transmit:3000+receiver=blur+quality=75", "transmit:3000+receiver=blur"),
        ("masked:0/inverted", "masked:0/inverted"),
        ("superpixels:98+compactness=0.10", "superpixels:98+compactness=0.1"),
    ],
)
def test_a_text_is_read_and_printed_exactly(text: str, canonical: str) -> None:
    setting = parse_setting(text)
    assert setting.text == canonical
    assert parse_setting(canonical) == setting


@given(
    st.sampled_from(token_strategy_names()).map(find_token_strategy),
    st.fractions(Fraction(1, 1000), 1),
    st.integers(0, 99),
    st.integers(0, 3),
    st.data(),
)
def test_every_setting_survives_its_text(rules, share, seed, layer, data) -> None:  # type: ignore[no-untyped-def]
    level = share if rules.level.valid(Fraction(1, 2)) else Fraction(seed + 1)
    kind = data.draw(st.sampled_from(rules.kinds))
    options = {
        name: data.draw(st.sampled_from(rule.choices) if rule.choices else st.sampled_from(("0", "0.5", "7", "1/3")))
        for name, rule in rules.options.items()
    }
    layers = (layer,) if rules.layers else ()
    drawn = seed if kind in rules.drawn else 0
    setting = TokenSetting(rules.name, str(level), layers, kind, drawn, tuple(options.items()))
    assert parse_setting(setting.text) == setting
    assert setting.share == level


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("select", "strategy:level"),
        ("select:", "strategy:level"),
        ("select:0.5 ; rm", "strategy:level"),
        ("selct:0.5", "did you mean select"),
        ("select:0", "a share above 0"),
        ("select:1.01", "a share above 0"),
        ("select:1/0", "a number such as"),
        ("select:0.5/radail", "did you mean radial"),
        ("select:0.5@3,1", "rising"),
        ("select:0.5/norm#3", "random"),
        ("select:0.5+fuze", "did you mean fuse"),
        ("select:0.5+fuse+fuse", "twice"),
        ("merge:0.5@1,2", "one block"),
        ("registers:1@2", "no layer"),
        ("registers:0.5", "integer"),
        ("clusters:0", "integer from 1"),
        ("transmit:1.5", "bytes"),
        ("transmit:0.5+receiver=men", "did you mean mean"),
    ],
)
def test_mistakes_are_refused_with_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_setting(text)
    assert words in str(caught.value)


def test_the_identity_is_the_encoder_itself() -> None:
    texts = ["select:1/radial", "merge:1.0", "masked:1/random#3", "clusters:1/raster", "registers:0/wrong"]
    texts += ["superpixels:0", "segments:0", "transmit:1"]
    for text in texts:
        assert parse_setting(text).is_identity
        assert parse_setting(text).fingerprint() == ""
    for text in ("transmit:1+coder=jpeg", "clusters:2", "masked:0", "select:0.99", "registers:1/empty"):
        assert not parse_setting(text).is_identity


def test_fingerprints_differ_in_whatever_changes_features() -> None:
    texts = ["select:0.5", "select:0.25", "select:0.5@1", "select:0.5/norm", "select:0.5/random", "select:0.5/random#1"]
    texts += ["select:0.5+fuse", "merge:0.5", "masked:0.5/attn"]
    prints = [parse_setting(text).fingerprint() for text in texts]
    prints += [parse_setting("registers:1").fingerprint({"neurons": digest}) for digest in ("a", "b")]
    assert len(set(prints)) == len(prints)
    # what a kind does not look at does not change it
    assert parse_setting("select:0.5").fingerprint({"masks": "a"}) == prints[0]
    assert parse_setting("select:0.50/attn@0".replace("/attn@0", "@0/attn")).fingerprint() == prints[0]


def test_shares_are_rounded_up_without_floating_point() -> None:
    assert kept(Fraction("0.55"), 100) == 55
    assert kept(Fraction("0.0001"), 196) == 1
    for count in (1, 25, 196, 576):
        numbers = [kept(Fraction(share, 1000), count) for share in range(1, 1001)]
        assert numbers == sorted(numbers)
        assert numbers[0] >= 1
        assert numbers[-1] == count


def test_settings_and_costs_need_no_torch() -> None:
    code = "import sys, semscale.tokens as t; t.parse_setting('select:0.5'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
