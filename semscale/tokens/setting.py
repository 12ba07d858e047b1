"""Token settings: one level of a token strategy, as text, as an object and as the part of an encoder's fingerprint.

The text is `strategy:level[@layers][/kind][#seed][+option[=value]]...`, for example `select:0.5@3/norm`,
`clusters:4/random#2` or `select:0.7@3,6,9+fuse`. Equal settings have one text: numbers in lowest form, and nothing
that the strategy would do anyway.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from semscale.common.errors import ConfigError
from semscale.tokens.token_strategies import TokenStrategy, find_token_strategy, unknown

_GRAMMAR = re.compile(
    r"(?P<strategy>[a-z][a-z0-9-]*):(?P<level>[0-9.]+(?:/[0-9]+)?)(?:@(?P<layers>[0-9]+(?:,[0-9]+)*))?"
    r"(?:/(?P<kind>[a-z][a-z0-9-]*))?(?:#(?P<seed>[0-9]+))?(?P<options>(?:\+[a-z][a-z0-9-]*(?:=[a-z0-9./]+)?)*)"
)
_SHAPE = "strategy:level[@layers][/kind][#seed][+option[=value]]..., such as select:0.5@3/norm"


@dataclass(frozen=True)
class TokenSetting:
    """One level of a token strategy.

    Arguments that are left out become what the strategy does without them, so that equal settings compare equal.

    Attributes:
        strategy: name of the strategy.
        level: its level, a canonical number: `0.5`, `1/3`, `4`.
        layers: the blocks where it acts, from 0.
        kind: the score or variant.
        seed: of what is drawn; 0 for kinds that draw nothing.
        options: further options (name, value) that differ from their defaults, sorted.

    Raises:
        ConfigError: an unknown strategy, kind or option, or a value that the strategy does not have.

    >>> TokenSetting("select", ".50").text, TokenSetting("select", "1/3", kind="random", seed=2).text
    ('select:0.5', 'select:1/3/random#2')
    """

    strategy: str
    level: str
    layers: tuple[int, ...] = ()
    kind: str = ""
    seed: int = 0
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        rules = find_token_strategy(self.strategy)
        where = f"token strategy {self.strategy}"
        kind = self.kind or rules.kinds[0]
        if kind not in rules.kinds:
            raise unknown("score or variant", kind, rules.kinds, where)
        if self.seed and kind not in rules.drawn:
            found, expected = f"seed {self.seed} of {kind}", f"a seed only with {' or '.join(rules.drawn)}"
            raise ConfigError("this kind draws nothing, so it has no seed", where=where, found=found, expected=expected)
        canonical = {
            "level": _level(self.level, rules, where),
            "layers": _layers(tuple(self.layers), rules, where),
            "kind": kind,
            "options": _options(dict(self.options), rules, where),
        }
        for name, value in canonical.items():
            object.__setattr__(self, name, value)

    @property
    def rules(self) -> TokenStrategy:
        """The strategy's entry in the registry."""
        return find_token_strategy(self.strategy)

    @property
    def share(self) -> Fraction:
        """The level as an exact number."""
        return Fraction(self.level)

    @property
    def is_identity(self) -> bool:
        """True if this level leaves the tower as it is.

        >>> parse_setting("registers:0").is_identity, parse_setting("transmit:1+coder=jpeg").is_identity
        (True, False)
        """
        return self.share == self.rules.level.identity and self.option("coder", "deflate") == "deflate"

    @property
    def is_control(self) -> bool:
        """True if the kind is one of the strategy's controls."""
        return self.kind in self.rules.controls

    def option(self, name: str, default: str = "") -> str:
        """Return the value of an option, or `default` where the strategy has no such option."""
        rule = self.rules.options.get(name)
        return dict(self.options).get(name, rule.default) if rule else default

    def flag(self, name: str) -> bool:
        """Return whether an option is switched on."""
        return self.option(name) == "yes"

    @property
    def text(self) -> str:
        """The canonical text, which :func:`parse_setting` reads back."""
        layers = "" if self.layers == self.rules.layers else "@" + ",".join(map(str, self.layers))
        kind = "" if self.kind == self.rules.kinds[0] else f"/{self.kind}"
        seed = f"#{self.seed}" if self.seed else ""
        options = "".join(f"+{name}" if value == "yes" else f"+{name}={value}" for name, value in self.options)
        return f"{self.strategy}:{self.level}{layers}{kind}{seed}{options}"

    def __str__(self) -> str:
        return self.text

    def fingerprint(self, digests: Mapping[str, str] | None = None) -> str:
        """Return canonical JSON for the encoder's fingerprint; empty for the identity, which is the encoder itself.

        Args:
            digests: of what the level depends on beside pixels, by name of the input: masks, neurons.

        >>> parse_setting("clusters:4").fingerprint()[:48]
        '{"inputs":{},"kind":"equal","layers":[0],"level"'
        """
        if self.is_identity:
            return ""
        wanted = self.rules.inputs(self.kind)
        content = {
            "strategy": self.strategy,
            "revision": self.rules.revision,
            "level": self.level,
            "layers": list(self.layers),
            "kind": self.kind,
            "seed": self.seed,
            "options": dict(self.options),
            "inputs": {name: digest for name, digest in (digests or {}).items() if name in wanted},
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"))


def parse_setting(text: str) -> TokenSetting:
    """Read a setting from its text.

    Raises:
        ConfigError: the text does not have the shape of a setting, or names what the strategy does not have.

    >>> parse_setting("select:0.70@3,6,9/attn+fuse")
    TokenSetting(strategy='select', level='0.7', layers=(3, 6, 9), kind='attn', seed=0, options=(('fuse', 'yes'),))
    """
    match = _GRAMMAR.fullmatch(text.strip())
    if match is None:
        raise ConfigError("not a token setting", found=repr(text), expected=_SHAPE)
    layers = tuple(int(layer) for layer in (match["layers"] or "").split(",") if layer)
    pairs = [option.partition("=") for option in match["options"].split("+")[1:]]
    options = tuple((name, value if sign else "yes") for name, sign, value in pairs)
    if len(dict(options)) < len(options):
        raise ConfigError("an option is given twice", where="token setting", found=repr(text))
    seed = int(match["seed"] or 0)
    return TokenSetting(match["strategy"], match["level"], layers, match["kind"] or "", seed, options)


def number_text(number: Fraction) -> str:
    """Return a non-negative number in lowest form: an integer, a finite decimal, or a quotient.

    >>> [number_text(Fraction(text)) for text in ("1.0", "0.350", "1/3", "1/8")]
    ['1', '0.35', '1/3', '0.125']
    """
    rest, digits = number.denominator, 0
    for prime in (2, 5):
        times = 0
        while rest % prime == 0:
            rest, times = rest // prime, times + 1
        digits = max(digits, times)
    if rest > 1 or not digits:
        return str(number)
    scaled = str(number.numerator * 10**digits // number.denominator).rjust(digits + 1, "0")
    return f"{scaled[:-digits]}.{scaled[-digits:]}"


def _number(text: str, what: str, where: str) -> Fraction:
    try:
        return Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        expected = "a number such as 0.5, 1/3 or 4"
        raise ConfigError(f"{what} is no number", where=where, found=repr(text), expected=expected) from None


def _level(text: str, rules: TokenStrategy, where: str) -> str:
    number = _number(text, "a level", where)
    if not rules.level.valid(number):
        raise ConfigError("no such level", where=where, found=repr(text), expected=rules.level.expected)
    return number_text(number)


def _layers(layers: tuple[int, ...], rules: TokenStrategy, where: str) -> tuple[int, ...]:
    layers = layers or rules.layers
    most = None if rules.several_layers else len(rules.layers)
    if list(layers) != sorted(set(layers)) or min(layers, default=0) < 0 or (most is not None and len(layers) > most):
        expected = "blocks from 0, rising" if rules.several_layers else ("one block", "no layer")[not most]
        found = ",".join(map(str, layers))
        raise ConfigError("the strategy cannot act at these layers", where=where, found=found, expected=expected)
    return layers


def _options(options: dict[str, str], rules: TokenStrategy, where: str) -> tuple[tuple[str, str], ...]:
    for name, value in options.items():
        rule = rules.options.get(name)
        if rule is None:
            raise unknown("option", name, tuple(rules.options), where)
        if rule.choices and value not in rule.choices:
            raise unknown(f"value of the option {name}", value, rule.choices, where)
        if not rule.choices:
            options[name] = number_text(_number(value, f"the option {name}", where))
    return tuple(sorted((name, value) for name, value in options.items() if value != rules.options[name].default))
