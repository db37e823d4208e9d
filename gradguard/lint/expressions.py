"""What expressions evaluate to."""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from gradguard.lint import attributes, calls, labels, names, statements, unknowns
from gradguard.lint.carry import carried, derive, units_of
from gradguard.lint.iteration import elements
from gradguard.lint.run import Frame, Run, truth
from gradguard.lint.syntax import walk
from gradguard.lint.values import (
    NONE,
    Class,
    Const,
    Data,
    Dict,
    Function,
    Hidden,
    Instance,
    Library,
    Optimizer,
    Parameters,
    Scope,
    Seq,
    Value,
)

__all__ = ["decide", "evaluate", "subscript"]


def evaluate(run: Run, node: ast.expr | None, frame: Frame) -> Value:
    """Return what an expression stands for."""
    if node is None:
        return NONE
    rule = _RULES.get(type(node))
    if rule is None:
        return run.data(frame.site(node))
    return rule(run, node, frame)


def decide(run: Run, node: ast.expr, frame: Frame, *, otherwise: bool = True) -> bool:
    """Say which way a condition goes, the same way for the same values every time.

    Args:
        run: The execution.
        node: The condition.
        frame: Where it stands.
        otherwise: Which way it goes where nothing tells.
    """
    match node:
        case ast.UnaryOp(op=ast.Not()):
            # What is denied is mostly the unusual: `if not ready: wait`.
            return not decide(run, node.operand, frame, otherwise=True)
        case ast.BoolOp(op=ast.And()):
            return all(decide(run, part, frame, otherwise=otherwise) for part in node.values)
        case ast.BoolOp():
            return any(decide(run, part, frame, otherwise=otherwise) for part in node.values)
        case ast.Compare(ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
            value = evaluate(run, node.left, frame)
            if isinstance(value, Parameters) and value.grads:
                # Gradients come and go: two such questions need not have one answer.
                return _decision(run, run.key("any", frame.site(node)), node, otherwise=otherwise)
            missing = _missing(run, value, node)
            return missing is isinstance(node.ops[0], ast.Is)
        case ast.NamedExpr():
            value = evaluate(run, node, frame)
            return _settle(run, value, node, otherwise=otherwise)
        case ast.Compare(ops=[operator]):
            left = evaluate(run, node.left, frame)
            right = evaluate(run, node.comparators[0], frame)
            return _compared(run, operator, left, right, node, otherwise=otherwise)
        case _:
            return _settle(run, evaluate(run, node, frame), node, otherwise=otherwise)


def _missing(run: Run, value: Value, node: ast.AST) -> bool:
    if isinstance(value, Const):
        return value.value is None
    if not isinstance(value, Data):
        return False
    hinted = value.hint is not None and value.hint.value is None
    if value.hint is None and not value.unknown:
        return False
    return _decision(run, run.key("missing", value.key), node, otherwise=hinted)


def _settle(run: Run, value: Value, node: ast.AST, *, otherwise: bool) -> bool:
    known = truth(value)
    if known is not None:
        return known
    if isinstance(value, Seq | Dict):
        return bool(value.items) or value.rest is not None
    if isinstance(value, Data) and value.hint is not None:
        otherwise = bool(value.hint.value)
    return _decision(run, value.key, node, otherwise=otherwise)


_OPPOSITE = {
    ast.NotEq: ("Eq", False),
    ast.Eq: ("Eq", True),
    ast.IsNot: ("Is", False),
    ast.Is: ("Is", True),
    ast.NotIn: ("In", False),
    ast.In: ("In", True),
    ast.Lt: ("Lt", True),
    ast.GtE: ("Lt", False),
    ast.Gt: ("Gt", True),
    ast.LtE: ("Gt", False),
}


def _compared(
    run: Run, operator: ast.cmpop, left: Value, right: Value, node: ast.AST, *, otherwise: bool
) -> bool:
    name, straight = _OPPOSITE[type(operator)]
    known = _known_comparison(name, left, right)
    if known is not None:
        return known is straight
    hinted = _known_comparison(name, _hinted(left), _hinted(right))
    default = hinted is straight if hinted is not None else otherwise
    key = run.key("compare", name, left.key, right.key)
    return _decision(run, key, node, otherwise=default is straight) is straight


def _hinted(value: Value) -> Value:
    return value.hint if isinstance(value, Data) and value.hint is not None else value


def _known_comparison(name: str, left: Value, right: Value) -> bool | None:
    if name == "In":
        if isinstance(left, Const):
            if isinstance(right, Dict) and (right.rest is None or left.value in right.items):
                return left.value in right.items
            if isinstance(right, Seq) and all(isinstance(item, Const) for item in right.items):
                inside = any(isinstance(i, Const) and i.value == left.value for i in right.items)
                return inside or (None if right.rest is not None else False)
            if isinstance(right, Const) and isinstance(right.value, str):
                return isinstance(left.value, str) and left.value in right.value
        return None
    if isinstance(left, Const) and isinstance(right, Const):
        one: Any = left.value
        two: Any = right.value
        try:
            match name:
                case "Eq":
                    return bool(one == two)
                case "Is":
                    return one is two or (one == two and type(one) is type(two))
                case "Lt":
                    return bool(one < two)
                case _:
                    return bool(one > two)
        except TypeError:
            return None
    if name in ("Is", "Eq") and isinstance(left, Instance | Class | Function | Optimizer):
        if isinstance(right, Instance | Class | Function | Optimizer | Const):
            return left is right or left.key == right.key
    return None


def _decision(run: Run, key: Hashable, node: ast.AST, *, otherwise: bool) -> bool:
    run.open[id(node)] = key
    run.asked.append(key)
    return run.decisions.setdefault(key, otherwise)


def subscript(run: Run, value: Value, index: Value, frame: Frame, node: ast.AST) -> Value:
    """Return an item of a value."""
    match value:
        case Seq():
            return _item(run, value, index, frame, node)
        case Dict():
            return _entry(run, value, index, frame, node)
        case Instance() if value.items is not None:
            found = subscript(run, value.items, index, frame, node)
            if isinstance(found, Seq):
                part = Instance(run.fresh(), lib=value.lib)
                part.module, part.items, part.path = True, found, value.path
                return part
            return found
        case Instance() if value.unit is not None and value.module:
            return attributes.child(run, value, f"[{_text(index)}]")
        case Instance() if value.cls is not None:
            method = value.cls.find("__getitem__")
            if isinstance(method, Function):
                return calls.call(run, method.bind(value), [index], {}, frame, node)
            return unknowns.unknown_part(run, value, f"[{_text(index)}]", frame, node)
        case Parameters():
            return value.like(one=True, part=True)
        case Data():
            if value.unknown:
                return unknowns.unknown_item(run, value, index, frame, node)
            found = derive(run, "index", [value], frame.site(node))
            found.key = run.key("item", value.key, index.key)
            found.tags = value.tags
            return found
        case Library() | Class():
            return value
        case _:
            return unknowns.unknown_part(run, value, f"[{_text(index)}]", frame, node)


def _text(index: Value) -> str:
    return repr(index.value) if isinstance(index, Const) else "i"


def _item(run: Run, value: Seq, index: Value, frame: Frame, node: ast.AST) -> Value:
    if isinstance(index, Const) and isinstance(index.value, int):
        number = index.value
        if number < 0 and value.closed:
            number += len(value.items)
        if 0 <= number < len(value.items):
            return value.items[number]
    if isinstance(index, Const) and isinstance(index.value, slice):
        if value.closed:
            try:
                return Seq(run.fresh(), value.items[index.value], value.kind)
            except (TypeError, ValueError):
                pass
        return value
    choices = value.items + ([value.rest] if value.rest is not None else [])
    if not choices:
        return run.data(frame.site(node))
    first = choices[0]
    if isinstance(first, Const) and all(one.key == first.key for one in choices):
        return first
    if all(isinstance(choice, Data | Const | Parameters) for choice in choices):
        return derive(run, "index", choices, frame.site(node))
    _pass_over(choices[1:])
    return choices[0]


def _pass_over(choices: list[Value]) -> None:
    """Note that what happens to one of many may as well happen to these."""
    for choice in choices:
        for unit in units_of(choice):
            unit.escaped = True


def _entry(run: Run, value: Dict, index: Value, frame: Frame, node: ast.AST) -> Value:
    # A slice is no key: it is not even hashable before Python 3.12.
    if (
        isinstance(index, Const)
        and isinstance(index.value, Hashable)
        and index.value in value.items
    ):
        return value.items[index.value]
    if value.rest is not None:
        return value.rest
    if value.items and not isinstance(index, Const):
        choices = list(value.items.values())
        if all(isinstance(choice, Data | Const) for choice in choices):
            return derive(run, "index", choices, frame.site(node))
        _pass_over(choices[1:])
        return choices[0]
    return run.data(frame.site(node), hidden=Hidden.ARGUMENT)


# --- one function for each kind of node -----------------------------------------------------


def _constant(run: Run, node: ast.Constant, frame: Frame) -> Value:
    return Const(node.value)


def _name(run: Run, node: ast.Name, frame: Frame) -> Value:
    return names.lookup(run, node.id, frame, node)


def _attribute(run: Run, node: ast.Attribute, frame: Frame) -> Value:
    return attributes.get(run, evaluate(run, node.value, frame), node.attr, frame, node)


def _subscript(run: Run, node: ast.Subscript, frame: Frame) -> Value:
    value = evaluate(run, node.value, frame)
    return subscript(run, value, evaluate(run, node.slice, frame), frame, node)


def _slice(run: Run, node: ast.Slice, frame: Frame) -> Value:
    parts = [evaluate(run, part, frame) for part in (node.lower, node.upper, node.step)]
    if all(isinstance(part, Const) for part in parts):
        bounds = [part.value for part in parts if isinstance(part, Const)]
        if all(bound is None or isinstance(bound, int) for bound in bounds):
            sliced = Const(None)
            sliced.value = slice(*bounds)
            sliced.key = ("slice", *bounds)
            return sliced
    return run.data(frame.site(node), key=run.key("slice", *(part.key for part in parts)))


def _tuple(run: Run, node: ast.Tuple | ast.List | ast.Set, frame: Frame) -> Value:
    items: list[Value] = []
    rest: Value | None = None
    for element in node.elts:
        if isinstance(element, ast.Starred):
            inner = evaluate(run, element.value, frame)
            if isinstance(inner, Parameters) and not inner.one:
                items.append(spend_parameters(inner, frame, node))
                continue
            found, more = elements(run, inner, frame, element)
            items += found
            rest = more if more is not None else rest
        else:
            items.append(evaluate(run, element, frame))
    kind = {ast.Tuple: "tuple", ast.List: "list", ast.Set: "set"}[type(node)]
    keys = tuple(item.key for item in items)
    return Seq(
        run.key(kind, *keys) if keys and rest is None and kind == "tuple" else run.fresh(),
        items,
        kind,
        rest,
    )


def spend_parameters(value: Parameters, frame: Frame, node: ast.AST) -> Parameters:
    """Use an iterator over parameters up: the second time it gives nothing."""
    if not value.once:
        return value
    if value.spent is not None and value.spent != frame.site(node):
        return Parameters((), named=value.named)
    value.spent = frame.site(node)
    return value.like()


def _dict(run: Run, node: ast.Dict, frame: Frame) -> Value:
    made = Dict(run.fresh())
    for key, item in zip(node.keys, node.values, strict=True):
        value = evaluate(run, item, frame)
        if key is None:
            if isinstance(value, Dict):
                made.items.update(value.items)
                made.rest = value.rest or made.rest
            else:
                made.rest = value
            continue
        name = evaluate(run, key, frame)
        if isinstance(name, Const):
            made.items[name.value] = value
            labels.label(value, f"[{name.value!r}]", None)
        else:
            made.rest = value
    return made


def _binary(run: Run, node: ast.BinOp, frame: Frame) -> Value:
    left = evaluate(run, node.left, frame)
    right = evaluate(run, node.right, frame)
    return operate(run, node.op, left, right, frame.site(node))


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], object]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Mod: lambda a, b: a % b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Div: lambda a, b: a / b,
}


def operate(run: Run, operator: ast.operator, left: Value, right: Value, site: object) -> Value:
    """Return what a binary operator gives."""
    if isinstance(left, Const) and isinstance(right, Const):
        return _folded(run, operator, left, right)
    if isinstance(operator, ast.Add):
        joined = _joined(run, left, right)
        if joined is not None:
            return joined
    if isinstance(operator, ast.Sub):
        fewer = _without(left, right)
        if fewer is not None:
            return fewer
    if isinstance(operator, ast.Mult) and isinstance(left, Seq) and isinstance(right, Const):
        if isinstance(right.value, int) and 0 <= right.value * len(left.items) <= 16:
            return Seq(run.fresh(), left.items * right.value, left.kind, left.rest)
    name = type(operator).__name__.lower()
    made = derive(run, name, [left, right], site)  # type: ignore[arg-type]
    if not made.flow:
        made.key = run.key(name, left.key, right.key)
        made.hint = None
    return made


def _folded(run: Run, operator: ast.operator, left: Const, right: Const) -> Value:
    fold = _ARITHMETIC.get(type(operator))
    one, two = left.value, right.value
    small = all(isinstance(v, int | float) and abs(v) < 1e9 for v in (one, two))
    texts = isinstance(one, str) and (isinstance(two, str) or isinstance(operator, ast.Mod))
    if fold is not None and (small or texts):
        try:
            return Const(fold(one, two))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            pass
    return run.data(None, key=run.key(type(operator).__name__, left.key, right.key))


def _without(left: Value, right: Value) -> Value | None:
    """Return a set of parameters without those of another."""
    ours, theirs = _sets(left), _sets(right)
    if not ours or not theirs:
        return None
    gone = {unit for one in theirs if not one.part for unit in one.units}
    units = [unit for one in ours for unit in one.units if unit not in gone]
    partly = {unit for one in theirs if one.part for unit in one.units}
    return Parameters(
        units,
        part=any(one.part for one in ours) or not partly.isdisjoint(units),
        complete=all(one.complete for one in (*ours, *theirs)),
    )


def _sets(value: Value) -> list[Parameters]:
    """Return the parameters of models that a collection is made of, if it is of nothing else."""
    items = value.items if isinstance(value, Seq) and value.closed else [value]
    found = [item for item in items if isinstance(item, Parameters)]
    single = any(one.one or one.values or one.grads or one.named for one in found)
    return [] if single or len(found) < len(items) else found


def _joined(run: Run, left: Value, right: Value) -> Value | None:
    if isinstance(left, Seq | Parameters) and isinstance(right, Seq | Parameters):
        if isinstance(left, Parameters) and left.one:
            return None
        sides = [side.items if isinstance(side, Seq) else [side] for side in (left, right)]
        rest = next((s.rest for s in (left, right) if isinstance(s, Seq) and s.rest), None)
        return Seq(run.fresh(), [*sides[0], *sides[1]], "list", rest)
    if isinstance(left, Seq) and isinstance(right, Data) and right.unknown:
        return Seq(run.fresh(), left.items, left.kind, right)
    if isinstance(right, Seq) and isinstance(left, Data) and left.unknown:
        return Seq(run.fresh(), right.items, right.kind, left)
    return None


def _unary(run: Run, node: ast.UnaryOp, frame: Frame) -> Value:
    value = evaluate(run, node.operand, frame)
    if isinstance(node.op, ast.Not):
        known = truth(value)
        if known is not None:
            return Const(not known)
        return run.data(frame.site(node), key=run.key("not", value.key))
    if isinstance(value, Const) and isinstance(node.op, ast.USub):
        try:
            return Const(-value.value)  # type: ignore[operator]
        except TypeError:
            return value
    if isinstance(node.op, ast.Invert):
        return run.data(frame.site(node), key=run.key("invert", value.key))
    return derive(run, "neg", [value], frame.site(node))


def _boolean(run: Run, node: ast.BoolOp, frame: Frame) -> Value:
    wanted = isinstance(node.op, ast.And)
    value: Value = NONE
    for part in node.values:
        value = evaluate(run, part, frame)
        if part is node.values[-1]:
            break
        if _settle(run, value, part, otherwise=True) is not wanted:
            return value
    return value


def _compare(run: Run, node: ast.Compare, frame: Frame) -> Value:
    left = evaluate(run, node.left, frame)
    right = [evaluate(run, part, frame) for part in node.comparators]
    if len(right) == 1:
        name, straight = _OPPOSITE[type(node.ops[0])]
        known = _known_comparison(name, left, right[0])
        if known is not None:
            return Const(known is straight)
        key = run.key("compare", name, left.key, right[0].key)
        found = run.data(frame.site(node), key=key if straight else run.key("not", key))
        hinted = _known_comparison(name, _hinted(left), _hinted(right[0]))
        if hinted is not None:
            found.hint = Const(hinted is straight)
        return found
    return run.data(frame.site(node))


def _choice(run: Run, node: ast.IfExp, frame: Frame) -> Value:
    chosen = node.body if decide(run, node.test, frame) else node.orelse
    return evaluate(run, chosen, frame)


def _lambda(run: Run, node: ast.Lambda, frame: Frame) -> Value:
    made = Function(node, frame.file, frame.scope, frame.cls)
    statements.take_defaults(run, made, node.args, frame)
    return made


def _call(run: Run, node: ast.Call, frame: Frame) -> Value:
    return calls.evaluate_call(run, node, frame)


def _text_with_values(run: Run, node: ast.JoinedStr, frame: Frame) -> Value:
    keys = []
    parts: list[str] | None = []
    for part in node.values:
        value = (
            evaluate(run, part.value, frame)
            if isinstance(part, ast.FormattedValue)
            else evaluate(run, part, frame)
        )
        keys.append(value.key)
        if parts is not None and isinstance(value, Const):
            parts.append(str(value.value))
        else:
            parts = None
    if parts is not None:
        return Const("".join(parts))
    return run.data(frame.site(node), key=run.key("text", *keys))


def _named(run: Run, node: ast.NamedExpr, frame: Frame) -> Value:
    value = evaluate(run, node.value, frame)
    statements.assign(run, node.target, value, frame)
    return value


def _await(run: Run, node: ast.Await, frame: Frame) -> Value:
    return evaluate(run, node.value, frame)


def _yield(run: Run, node: ast.Yield, frame: Frame) -> Value:
    value = evaluate(run, node.value, frame)
    handler = run.yielding.get(id(frame))
    if handler is not None:
        handler(value)
    elif frame.yields is not None:
        frame.yields.append(value)
    return run.data(frame.site(node))


def _yield_from(run: Run, node: ast.YieldFrom, frame: Frame) -> Value:
    value = evaluate(run, node.value, frame)
    if frame.yields is not None:
        if isinstance(value, Parameters):
            frame.yields.append(value)
        else:
            found, rest = elements(run, value, frame, node)
            frame.yields += found + ([rest] if rest is not None else [])
    return NONE


def _comprehension(
    run: Run, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, frame: Frame
) -> Value:
    inner = Frame(frame.file, Scope(frame.scope))
    inner.cls, inner.receiver, inner.function = frame.cls, frame.receiver, frame.function
    items: list[Value] = []
    entries: dict[object, Value] = {}
    rest: list[Value] = []

    def produce(level: int, known: bool) -> None:
        if level == len(node.generators):
            if isinstance(node, ast.DictComp):
                key = evaluate(run, node.key, inner)
                value = evaluate(run, node.value, inner)
                if known and isinstance(key, Const):
                    entries[key.value] = value
                    labels.label(value, f"[{key.value!r}]", None)
                else:
                    rest.append(value)
                return
            value = evaluate(run, node.elt, inner)
            (items if known else rest).append(value)
            return
        generator = node.generators[level]
        source = evaluate(run, generator.iter, inner if level else frame)
        found, more = elements(run, source, inner, generator.iter)
        for element in found:
            statements.assign(run, generator.target, element, inner, passing=True)
            narrowed = _filtered(run, generator.ifs, element, inner)
            if narrowed is None:
                continue
            if narrowed is not element:
                statements.assign(run, generator.target, narrowed, inner, passing=True)
            produce(level + 1, known)
        if more is not None:
            statements.assign(run, generator.target, more, inner, passing=True)
            narrowed = _filtered(run, generator.ifs, more, inner)
            if narrowed is not None:
                produce(level + 1, known=False)

    produce(0, known=True)
    if isinstance(node, ast.DictComp):
        return Dict(run.fresh(), entries, rest[0] if rest else None)
    kind = {ast.ListComp: "list", ast.SetComp: "set"}.get(type(node), "iterator")
    if items and not rest and all(isinstance(i, Parameters) and i.one for i in items):
        # `[p for p in model.parameters() if ...]` are the model's parameters again.
        units = [unit for i in items if isinstance(i, Parameters) for unit in i.units]
        first = items[0]
        assert isinstance(first, Parameters)  # noqa: S101
        return first.like(
            units=units, one=False, part=any(i.part for i in items if isinstance(i, Parameters))
        )
    return Seq(run.fresh(), items, kind, rest[0] if rest else None)


def _filtered(run: Run, tests: Iterable[ast.expr], element: Value, frame: Frame) -> Value | None:
    """Return what a comprehension's conditions leave of an element, or ``None`` for nothing."""
    for test in tests:
        if isinstance(element, Parameters) and element.one:
            element = _of_parameters(run, test, element, frame)
            continue
        named = isinstance(element, Seq) and any(isinstance(i, Parameters) for i in element.items)
        if named and isinstance(element, Seq):
            items = [i.like(part=True) if isinstance(i, Parameters) else i for i in element.items]
            element = Seq(run.fresh(), items, element.kind)
            continue
        if not decide(run, test, frame):
            return None
    return element


def _of_parameters(run: Run, test: ast.expr, value: Parameters, frame: Frame) -> Parameters:
    if isinstance(test, ast.Attribute) and test.attr == "requires_grad":
        units = [unit for unit in value.units if unit.frozen is not True]
        return value.like(units=units)
    grads = any(isinstance(n, ast.Attribute) and n.attr == "grad" for n in walk(test))
    if grads:
        return value
    return value.like(part=True)


_RULES: dict[type[ast.expr], Callable[..., Value]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.Tuple: _tuple,
    ast.List: _tuple,
    ast.Set: _tuple,
    ast.Dict: _dict,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.Compare: _compare,
    ast.IfExp: _choice,
    ast.Lambda: _lambda,
    ast.Call: _call,
    ast.JoinedStr: _text_with_values,
    ast.NamedExpr: _named,
    ast.Await: _await,
    ast.Yield: _yield,
    ast.YieldFrom: _yield_from,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.DictComp: _comprehension,
}


def flows(value: Value) -> bool:
    """Say whether a value carries gradient."""
    return bool(carried(value).flow)
