"""YAML with positions: plain values, and the line of every key and list item."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

import yaml

from semscale.errors import SemscaleError

Location = tuple[str | int, ...]
Fault = tuple[Location, str]
"""Where in a study, and what is wrong there, as one sentence without a full stop."""

_DEEPEST = 40
_LONGEST_NUMBER = 300
_TAG = "tag:yaml.org,2002:"
_SCALARS = tuple(_TAG + name for name in ("null", "bool", "int", "float", "str"))


@dataclass
class PositionedYaml:
    """Content of a YAML text: plain values with texts as keys, the line of every key and item, and keys given twice."""

    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """SafeLoader to which dates, `<<` and `=` are plain texts, and which refuses aliases: they can expand for ever."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused(f"the alias *{event.anchor}; write out what it stands for", event)
        if self.depth == _DEEPEST:
            raise _refused(f"nested more than {_DEEPEST} levels deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if pair[0] in _SCALARS]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag in (*_SCALARS, _TAG + "seq", _TAG + "map", None)
}


def _refused(what: str, part: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=part.start_mark)


def read_yaml(text: str, where: str = "") -> PositionedYaml:
    """Read a YAML text; raises SemscaleError if it is not YAML, has tags or aliases, or is nested too deeply.

    >>> content = read_yaml("a: 1\\nb:\\n  - x\\na: 2\\n")
    >>> content.value, content.lines["b", 0], content.faults
    ({'a': 2, 'b': ['x']}, 3, [(('a',), 'stands here twice, first in line 1')])
    """
    breaks = [index for index, letter in enumerate(text) if letter == "\n"]
    content = PositionedYaml()

    def visit(node: yaml.Node, here: Location) -> None:
        """Check a node, and note the lines of what is in it."""
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > _LONGEST_NUMBER and node.tag != _TAG + "str":
                raise _refused(f"{node.value[:60]!a} is no {node.tag.rpartition(':')[2]}", node)
            if any("\ud800" <= letter <= "\udfff" for letter in node.value):
                raise _refused("half a character (a lone surrogate)", node)
        for number, entry in enumerate(node.value if isinstance(node, yaml.CollectionNode) else ()):
            key, child = entry if isinstance(node, yaml.MappingNode) else (None, entry)
            place: Location = (*here, number)
            if key is not None:
                if not isinstance(key, yaml.ScalarNode):
                    raise _refused("a list or mapping cannot be a key", key)
                visit(key, here)
                key.tag = _TAG + "str"  # as it is written: `on` stays `on`, and 007 is not 7
                place = (*here, key.value)
                if place in content.lines:
                    content.faults.append((place, f"stands here twice, first in line {content.lines[place]}"))
            content.lines[place] = bisect_left(breaks, (key or child).start_mark.index) + 1
            visit(child, place)

    index: int | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            visit(node, ())
            content.value = loader.construct_document(node)
        return content
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        index, found = mark.index if mark else None, error.problem
    except yaml.reader.ReaderError as error:
        index, found = error.position, "a control character or half a character"
    # `!!int x`, `!!bool x`, or an escape such as "\\UFFFFFFFF", which is no character
    except (yaml.YAMLError, ValueError, OverflowError, LookupError) as error:
        found = str(error) or type(error).__name__
    place = where if index is None else f"{where}, line {bisect_left(breaks, index) + 1}"
    raise SemscaleError("the study file is not valid YAML", where=place, found=" ".join(str(found).split()))
