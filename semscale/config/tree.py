"""From the text of a YAML file to plain values, with the line of every key; nothing in a file can make it explode.

Keys are taken as they are written (``on`` stays ``on``, ``007`` is not 7), a key that stands twice is a fault, and
dates stay texts. Aliases and merge keys work; what they expand to is counted before it is built.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Location = tuple[str | int, ...]
Fault = tuple[Location, str]
"""Where in the tree, and what is wrong there, as one sentence without a full stop."""

MOST_NODES = 500_000
"""Keys and values of a file, aliases expanded; a map of the 21,000 classes of ImageNet has 42,000."""

_DEEPEST = 40
_LONGEST_NUMBER = 300
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float")}
_NUMBERS = {"tag:yaml.org,2002:int": "whole number", "tag:yaml.org,2002:float": "number"}
_TEXT_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "value")}
_MERGE = "tag:yaml.org,2002:merge"


class NoTreeError(Exception):
    """The text is no YAML, or none that can be built; `line` is the line where that shows, if it is known."""

    def __init__(self, what: str, line: int | None) -> None:
        super().__init__(what)
        self.what = what
        self.line = line


@dataclass
class Tree:
    """What a YAML file holds.

    Attributes:
        value: plain values: mappings with texts as keys, lists, texts, numbers, booleans, None.
        lines: line of every key and of every item of a list, counted from 1.
        faults: what is wrong with the YAML itself, such as a key that stands twice.
    """

    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read_tree(text: str) -> Tree:
    """Build the tree of a YAML text.

    Raises:
        NoTreeError: not YAML, nested too deeply, an alias of itself, or aliases that expand to too much.

    >>> tree = read_tree("a: 1\\nb:\\n  - x\\na: 2\\n")
    >>> tree.value, tree.lines["b", 0], tree.faults
    ({'a': 2, 'b': ['x']}, 3, [(('a',), 'stands here twice, first in line 1')])
    """
    lines = _LineNumbers(text)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(error.problem or error).split())
        raise NoTreeError(what, lines.of(mark.index) if mark else None) from error
    except yaml.reader.ReaderError as error:
        raise NoTreeError("a control character or half a character", lines.of(error.position)) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF" is no character
        raise NoTreeError(" ".join(str(error).split()), None) from error
    except RecursionError as error:
        raise NoTreeError(f"nested more than {_DEEPEST} levels deep", None) from error
    if node is None:
        return Tree()
    _measure(node, lines)
    return _Builder(lines).build(node)


class _LineNumbers:
    def __init__(self, text: str) -> None:
        self._breaks = [place for place, character in enumerate(text) if character == "\n"]
        self._last = len(self._breaks) + (0 if text.endswith("\n") else 1)

    def of(self, index: int) -> int:
        return max(1, min(bisect_right(self._breaks, index - 1) + 1, self._last))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _measure(root: yaml.Node, lines: _LineNumbers) -> None:
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in open_nodes:
            raise NoTreeError("an alias stands inside of what it names", lines.of(node.start_mark.index))
        if depth > _DEEPEST:
            raise NoTreeError(f"nested more than {_DEEPEST} levels deep", lines.of(node.start_mark.index))
        if id(node) not in sizes:
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in _children(node))
            open_nodes.remove(id(node))
        if sizes[id(node)] > MOST_NODES:
            where = lines.of(node.start_mark.index)
            raise NoTreeError(f"more than {MOST_NODES:,} keys and values when aliases are expanded", where)
        return sizes[id(node)]

    size(root, 1)


class _Builder:
    def __init__(self, lines: _LineNumbers) -> None:
        self._lines = lines
        self._scalars = yaml.SafeLoader("")
        self._tree = Tree()

    def build(self, node: yaml.Node) -> Tree:
        self._tree.value = self._value(node, ())
        return self._tree

    def _value(self, node: yaml.Node, here: Location) -> Any:
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map", here)
            return self._mapping(node, here)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq", here)
            items = []
            for number, child in enumerate(node.value):
                self._tree.lines[(*here, number)] = self._lines.of(child.start_mark.index)
                items.append(self._value(child, (*here, number)))
            return items
        return self._scalar(node, here)

    def _check_tag(self, node: yaml.Node, kind: str, here: Location) -> None:
        if node.tag != f"tag:yaml.org,2002:{kind}":
            self._tree.faults.append((here, f"the tag {node.tag!a} has no meaning here"))

    def _mapping(self, node: yaml.MappingNode, here: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[tuple[yaml.Node, int]] = []
        for key, child in node.value:
            line = self._lines.of(key.start_mark.index)
            if key.tag == _MERGE:
                sources = child.value if isinstance(child, yaml.SequenceNode) else [child]
                merged += [(source, line) for source in sources]
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._tree.lines.setdefault(here, line)
                self._tree.faults.append((here, f"a list or mapping cannot be a key (line {line})"))
                continue
            name = key.value.encode("utf-8", "backslashreplace").decode()
            place = (*here, name)
            if name in result:
                self._tree.faults.append((place, f"stands here twice, first in line {self._tree.lines[place]}"))
            self._tree.lines[place] = line
            result[name] = self._value(child, place)
        for source, line in merged:
            if not isinstance(source, yaml.MappingNode):
                self._tree.faults.append((here, f"<< takes a mapping (line {line})"))
                continue
            part = _Builder(self._lines)
            found, own = part._mapping(source, here), set(result)
            result = {**found, **result}
            new = {place: at for place, at in part._tree.lines.items() if place[len(here)] not in own}
            self._tree.lines |= new
            self._tree.faults += part._tree.faults
        return result

    def _scalar(self, node: yaml.Node, here: Location) -> Any:
        text: str = node.value
        if node.tag in _TEXT_TAGS:
            if text.encode("utf-8", "replace").decode() != text:
                self._tree.faults.append((here, "holds half a character (a lone surrogate)"))
                return ""
            return text
        if node.tag not in _PLAIN_TAGS:
            self._tree.faults.append((here, f"the tag {node.tag!a} has no meaning here"))
            return text
        if node.tag in _NUMBERS and len(text) > _LONGEST_NUMBER:
            self._tree.faults.append((here, f"a number of {len(text):,} characters"))
            return 0
        try:
            return self._scalars.construct_object(node)
        except Exception:  # `!!int x` raises ValueError, `!!bool x` KeyError, and so on
            kind = node.tag.rpartition(":")[2]
            self._tree.faults.append((here, f"{text[:60]!a} is no {_NUMBERS.get(node.tag, kind)}"))
            return None
