"""YAML with positions: plain values, and the line of every key and list item."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

Location = tuple[str | int, ...]
Fault = tuple[Location, str]
"""Where in a study, and what is wrong there, as one sentence without a full stop."""

_DEEPEST = 40
_LONGEST_NUMBER = 300
_SCALARS = (":null", ":bool", ":int", ":float", ":str")


class NotYamlError(Exception):
    """The text is not YAML that a study can consist of; `line` is None where it is not known."""

    def __init__(self, what: str, line: int | None) -> None:
        super().__init__(what)
        self.what = what
        self.line = line


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
    letter: [pair for pair in pairs if pair[0].endswith(_SCALARS)]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refused(what: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=place.start_mark)


def read_yaml(text: str) -> PositionedYaml:
    """Read a YAML text.

    Raises:
        NotYamlError: not YAML, tags or aliases in it, or nested too deeply.

    >>> content = read_yaml("a: 1\\nb:\\n  - x\\na: 2\\n")
    >>> content.value, content.lines["b", 0], content.faults
    ({'a': 2, 'b': ['x']}, 3, [(('a',), 'stands here twice, first in line 1')])
    """
    breaks = [index for index, letter in enumerate(text) if letter == "\n"]
    content = PositionedYaml()

    def line_of(mark: yaml.Mark) -> int:
        return bisect_left(breaks, mark.index) + 1

    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        content.value = None if node is None else _build(loader, node, (), content, line_of)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYamlError(" ".join(str(error.problem).split()), line_of(mark) if mark else None) from error
    except yaml.reader.ReaderError as error:
        line = bisect_left(breaks, error.position) + 1
        raise NotYamlError("a control character or half a character", line) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # an escape such as "\\UFFFFFFFF" is no character
        raise NotYamlError(" ".join(str(error).split()), None) from error
    return content


def _build(
    loader: _Loader, node: yaml.Node, here: Location, content: PositionedYaml, line_of: Callable[[yaml.Mark], int]
) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag.endswith(":map"):
        mapping: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused("a list or mapping cannot be a key", key)
            name = _checked_text(key)  # as it is written: `on` stays `on`, and 007 is not 7
            place = (*here, name)
            if name in mapping:
                content.faults.append((place, f"stands here twice, first in line {content.lines[place]}"))
            content.lines[place] = line_of(key.start_mark)
            mapping[name] = _build(loader, child, place, content, line_of)
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
        for number, child in enumerate(node.value):
            content.lines[*here, number] = line_of(child.start_mark)
        return [_build(loader, child, (*here, number), content, line_of) for number, child in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode) or not node.tag.endswith(_SCALARS):
        raise _refused(f"the tag {node.tag!a} has no meaning here", node)
    text = _checked_text(node)
    try:
        if len(text) > _LONGEST_NUMBER and not node.tag.endswith(":str"):
            raise ValueError
        return loader.construct_object(node)
    except (ValueError, KeyError, OverflowError) as error:  # `!!int x`, `!!bool x`
        raise _refused(f"{text[:60]!a} is no {node.tag.rpartition(':')[2]}", node) from error


def _checked_text(node: yaml.ScalarNode) -> str:
    text: str = node.value
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused("half a character (a lone surrogate)", node) from None
    return text
