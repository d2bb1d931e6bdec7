"""A value in a JSON document by its path: `user.id`, `roles.0`, or a name with dots of its own, as `https://app.example/roles`."""

from __future__ import annotations


def value_at(content: object, path: str) -> object:
    """What is there, or `None`. A name that is there as it stands comes before a path of several names."""
    if isinstance(content, dict):
        return content[path] if path in content else _value_inside(content, path)
    if isinstance(content, list):
        head, _, rest = path.partition(".")
        inside = content[int(head)] if head.isdecimal() and len(head) < 5 and int(head) < len(content) else None
        return value_at(inside, rest) if rest else inside
    return None


def _value_inside(content: dict[str, object], path: str) -> object:
    end = path.rfind(".")
    while end > 0:
        if path[:end] in content:
            return value_at(content[path[:end]], path[end + 1 :])
        end = path.rfind(".", 0, end)
    return None


def words_at(content: object, path: str) -> frozenset[str]:
    """The texts of a list, or the words of a text; whatever else is there says nothing."""
    value = value_at(content, path)
    if isinstance(value, str):
        return frozenset(value.split())
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()
