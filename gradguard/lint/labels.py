"""How the program gets at models and optimizers: the names that findings call them by."""

from __future__ import annotations

from gradguard.lint.values import LOCAL, Data, Dict, Instance, Optimizer, Parameters, Seq, Value

__all__ = ["label", "move"]

_DEEPEST = 12


def label(value: Value, part: str, holder: Instance | None) -> None:
    """Note how the program gets at a model or an optimizer; the first way is its name."""
    prefix = () if holder is None else holder.path or ("self",)
    if prefix and prefix[0].startswith(LOCAL) and holder is not None and not holder.module:
        prefix = ("self",)
    _label(value, (*prefix, part), 0, inner=False)


def _label(value: Value, path: tuple[str, ...], depth: int, *, inner: bool) -> None:
    if depth > _DEEPEST:
        return
    match value:
        case Instance():
            named = value.path and not _gives_way(value.path, path, inner=inner)
            opaque = value.unit is not None and value.unit.opaque
            if named or (opaque and value.path and not value.path[0].startswith(LOCAL)):
                return
            value.path = path
            if value.unit is not None and _gives_way(value.unit.path, path, inner=inner):
                value.unit.path = path
            for name, part in value.attrs.items():
                _label(part, (*path, name), depth + 1, inner=True)
            if value.items is not None:
                _label(value.items, path, depth + 1, inner=True)
        case Parameters() if value.one and len(value.units) == 1 and value.units[0].bare:
            if _gives_way(value.units[0].path, path, inner=inner):
                value.units[0].path = path
        case Optimizer():
            if _gives_way(value.path, path, inner=inner):
                value.path = path
        case Data():
            if "leaf" in value.tags:
                for unit in value.flow:
                    if unit.tensor and _gives_way(unit.path, path, inner=inner):
                        unit.path = path
            if not value.name and path and not path[-1].startswith("["):
                value.name = (
                    path[-1] if len(path) == 1 or path[0] != "self" else ".".join(path[-2:])
                )
            elif not value.name and len(path) > 1 and (value.flow or value.cuts):
                value.name = "".join(path[-2:])
        case Seq():
            for number, item in enumerate(value.items[:16]):
                if not isinstance(item, Data):
                    _label(item, (*path, f"[{number}]"), depth + 1, inner=inner)
        case Dict():
            for key, item in list(value.items.items())[:32]:
                _label(item, (*path, f"[{key!r}]"), depth + 1, inner=inner)
        case _:
            return


def move(value: Instance, path: tuple[str, ...]) -> None:
    """Note that the program gets at an object, and at what is in it, in another way."""
    before, seen = value.path, set[int]()
    queue: list[Value] = [value]

    def moved(old: tuple[str, ...]) -> tuple[str, ...]:
        return (*path, *old[len(before) :]) if before and old[: len(before)] == before else old

    while queue:
        one = queue.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        match one:
            case Instance():
                one.path = moved(one.path)
                if one.unit is not None:
                    one.unit.path = moved(one.unit.path)
                queue += [*one.attrs.values(), *filter(None, [one.items])]
            case Optimizer():
                one.path = moved(one.path)
            case Parameters():
                for unit in one.units:
                    unit.path = moved(unit.path)
            case Seq():
                queue += one.items
            case Dict():
                queue += one.items.values()
            case _:
                continue
    value.path = path


def _gives_way(path: tuple[str, ...], other: tuple[str, ...], *, inner: bool) -> bool:
    """Say whether a name is given up for another.

    An attribute's is kept, unless the other tells how the attribute's holder is got at.
    """
    if path and path[0] == "self" and other:
        around = inner and other[0] != "self"
        return around or not _dangling(other) or other[1 - len(path) :] == path[1:]
    return _dangling(path)


def _dangling(path: tuple[str, ...]) -> bool:
    return not path or path[0] == "self" or path[0].startswith(("[", LOCAL))
