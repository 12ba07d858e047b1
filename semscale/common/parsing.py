"""Parsers of untrusted YAML, with the line of every key and list item, and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from semscale.common.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Keys and list indices that lead to a value of a study."""

ValidationIssue = tuple[KeyPath, str]
"""Key path of an invalid value and the problem, as a sentence without a full stop."""

_TAG = "tag:yaml.org,2002:"
_MAX_DIGITS = 1000  # YAML reads 1:1:1... as a number, which takes time quadratic in its length


@dataclass
class PositionedYaml:
    """Content of a YAML text: plain values with texts as keys, the line of every key and item, and duplicate keys."""

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    issues: list[ValidationIssue] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads dates, `<<` and `=` as texts, and rejects aliases, which can expand without end."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _rejected(f"the alias *{event.anchor}; write out what it stands for", event)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in pairs if tag.removeprefix(_TAG) not in ("timestamp", "merge", "value")]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _TextLoader(_Loader):
    """Loader that reads all scalars as texts, also `yes` and 007, but for nothing, `~` and `null`."""


_TextLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in pairs if tag == f"{_TAG}null"]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_json(text: str | bytes, **options: Any) -> Any:
    """Parse JSON as `json.loads` does; raise ValueError also for a text that is nested too deeply."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _rejected(what: str, part: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=part.start_mark)


def read_yaml(text: str, where: str = "", what: str = "the text", *, plain: bool = True) -> PositionedYaml:
    """Parse YAML; raise ConfigError if it is invalid, has aliases or unknown tags, or is nested too deeply.

    Without `plain` values all scalars but null are texts as written.

    >>> content = read_yaml("a: 1\\nb:\\n  - x\\na: 2\\n")
    >>> content.value, content.lines["b", 0], content.issues
    ({'a': 2, 'b': ['x']}, 3, [(('a',), 'duplicate key, first in line 1')])
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
    where, found = f"{where}, line {line}" if line else where, " ".join(str(found).split())
    raise ConfigError(f"{what} is not valid YAML", where=where, found=found)


def _visit(node: yaml.Node, path: KeyPath, content: PositionedYaml) -> None:
    """Check a node, and record the lines of its keys and items."""
    if isinstance(node, yaml.ScalarNode) and any("\ud800" <= letter <= "\udfff" for letter in node.value):
        raise _rejected("half a character (a lone surrogate)", node)
    if node.tag in (f"{_TAG}int", f"{_TAG}float") and len(node.value) > _MAX_DIGITS:
        raise _rejected(f"a number of {len(node.value):,} characters", node)
    for number, entry in enumerate(node.value if isinstance(node, yaml.CollectionNode) else ()):
        key, child = entry if isinstance(node, yaml.MappingNode) else (None, entry)
        child_path: KeyPath = (*path, number)
        if key is not None:
            if not isinstance(key, yaml.ScalarNode):
                raise _rejected("a list or mapping cannot be a key", key)
            _visit(key, path, content)
            key.tag = f"{_TAG}str"  # as written: `on` stays `on`, and 007 is not 7
            child_path = (*path, key.value)
            if child_path in content.lines:
                content.issues.append((child_path, f"duplicate key, first in line {content.lines[child_path]}"))
        content.lines[child_path] = (key or child).start_mark.line + 1
        _visit(child, child_path, content)
