"""Documents from outside: YAML with the line of every key and list item, and JSON, neither nested too deeply."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from semscale.common.errors import SemscaleError

Location = tuple[str | int, ...]
Fault = tuple[Location, str]
"""Where in a study, and what is wrong there, as one sentence without a full stop."""

_TAG = "tag:yaml.org,2002:"
_MOST_DIGITS = 1000  # to YAML 1:1:1... is a number, too, which takes time by the square of its length


@dataclass
class PositionedYaml:
    """Content of a YAML text: plain values with texts as keys, the line of every key and item, and keys given twice."""

    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """SafeLoader to which dates, `<<` and `=` are plain texts, and which refuses aliases: they can expand for ever."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused(f"the alias *{event.anchor}; write out what it stands for", event)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in pairs if tag.removeprefix(_TAG) not in ("timestamp", "merge", "value")]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _TextLoader(_Loader):
    """The same, to which `yes`, `no` and 007 are texts, too; only nothing, `~` and `null` are no text."""


_TextLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in pairs if tag == f"{_TAG}null"]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_json(text: str | bytes, **how: Any) -> Any:
    """Return the value of a JSON text, as `json.loads` does; ValueError also where it is nested too deeply."""
    try:
        return json.loads(text, **how)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refused(what: str, part: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=part.start_mark)


def read_yaml(text: str, where: str = "", what: str = "the text", *, plain: bool = True) -> PositionedYaml:
    """Read a YAML text; raises SemscaleError if it is not YAML, has aliases or unknown tags, or is nested too deeply.

    Without `plain` values all scalars but null are texts as they are written.

    >>> content = read_yaml("a: 1\\nb:\\n  - x\\na: 2\\n")
    >>> content.value, content.lines["b", 0], content.faults
    ({'a': 2, 'b': ['x']}, 3, [(('a',), 'stands here twice, first in line 1')])
    """
    content, line = PositionedYaml(), None
    try:
        loader = (_Loader if plain else _TextLoader)(text)
        node = loader.get_single_node()
        if node is not None:
            _visit(node, (), content)
            content.value = loader.construct_document(node)
        return content
    except yaml.MarkedYAMLError as error:
        mark, found = error.problem_mark or error.context_mark, error.problem
        line = mark.line + 1 if mark else None
    except yaml.reader.ReaderError as error:
        line, found = text.count("\n", 0, error.position) + 1, "a control character or half a character"
    except RecursionError:
        found = "nested too deeply"
    # `!!int x`, `!!bool x`, or an escape such as "\\UFFFFFFFF", which is no character
    except (yaml.YAMLError, ValueError, OverflowError, LookupError) as error:
        found = str(error) or type(error).__name__
    place, found = f"{where}, line {line}" if line else where, " ".join(str(found).split())
    raise SemscaleError(f"{what} is not valid YAML", where=place, found=found)


def _visit(node: yaml.Node, here: Location, content: PositionedYaml) -> None:
    """Check a node, and note the lines of what is in it."""
    if isinstance(node, yaml.ScalarNode) and any("\ud800" <= letter <= "\udfff" for letter in node.value):
        raise _refused("half a character (a lone surrogate)", node)
    if node.tag in (f"{_TAG}int", f"{_TAG}float") and len(node.value) > _MOST_DIGITS:
        raise _refused(f"a number of {len(node.value):,} characters", node)
    for number, entry in enumerate(node.value if isinstance(node, yaml.CollectionNode) else ()):
        key, child = entry if isinstance(node, yaml.MappingNode) else (None, entry)
        place: Location = (*here, number)
        if key is not None:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused("a list or mapping cannot be a key", key)
            _visit(key, here, content)
            key.tag = f"{_TAG}str"  # as it is written: `on` stays `on`, and 007 is not 7
            place = (*here, key.value)
            if place in content.lines:
                content.faults.append((place, f"stands here twice, first in line {content.lines[place]}"))
        content.lines[place] = (key or child).start_mark.line + 1
        _visit(child, place, content)
