"""What statements do."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from gradguard.lint import attributes, calls, events, expressions, labels, names
from gradguard.lint.carry import carried, derive
from gradguard.lint.iteration import elements
from gradguard.lint.run import Frame, Run
from gradguard.lint.syntax import walk
from gradguard.lint.values import (
    LOCAL,
    Class,
    Const,
    Context,
    Data,
    Dict,
    Function,
    Instance,
    Library,
    Optimizer,
    Parameters,
    Partial,
    Scope,
    Seq,
    Value,
    merged,
)

__all__ = ["assign", "execute", "take_defaults"]

_FALLS = (ast.Return, ast.Raise, ast.Break, ast.Continue)


def execute(run: Run, body: Sequence[ast.stmt], frame: Frame) -> str | None:
    """Execute statements; return how control left them, if it did: return, break, continue."""
    for statement in body:
        run.budget.spend(run)
        rule = _RULES.get(type(statement))
        if rule is None:
            continue
        left = rule(run, statement, frame)
        if left is not None:
            return left
    return None


def assign(
    run: Run, target: ast.expr, value: Value, frame: Frame, *, passing: bool = False
) -> None:
    """Bind a target to a value.

    Args:
        run: The execution.
        target: What is bound.
        value: What it is bound to.
        frame: Where it stands.
        passing: True for the variable of a loop, which is no name for what it goes over.
    """
    match target:
        case ast.Name():
            inside = (passing or frame.function is not None) and not isinstance(value, Data)
            if not (passing and isinstance(value, Instance | Optimizer) and value.path):
                labels.label(value, LOCAL + target.id if inside else target.id, None)
            _scope_of(run, target.id, frame).names[target.id] = value
        case ast.Attribute():
            holder = expressions.evaluate(run, target.value, frame)
            attributes.put(run, holder, target.attr, value, frame, target)
        case ast.Subscript():
            _assign_item(run, target, value, frame)
        case ast.Tuple() | ast.List():
            _unpack(run, target, value, frame, passing=passing)
        case ast.Starred():
            assign(run, target.value, value, frame, passing=passing)
        case _:
            return


def _scope_of(run: Run, name: str, frame: Frame) -> Scope:
    if name in frame.globals:
        return names.global_scope(run, frame.file)
    if name in frame.nonlocals:
        scope = frame.scope.parent
        while scope is not None:
            if name in scope.names:
                return scope
            scope = scope.parent
    return frame.scope


def _assign_item(run: Run, target: ast.Subscript, value: Value, frame: Frame) -> None:
    holder = expressions.evaluate(run, target.value, frame)
    index = expressions.evaluate(run, target.slice, frame)
    container: Instance | None = None
    if isinstance(holder, Instance) and holder.items is not None:
        container, holder = holder, holder.items
    match holder:
        case Dict():
            if isinstance(index, Const):
                try:
                    hash(index.value)
                except TypeError:
                    return
                before = holder.items.get(index.value)
                if isinstance(before, Parameters) and before.group is not None:
                    events.regroup(run, before.group, value, frame, target)
                holder.items[index.value] = value
                base = ast.unparse(target.value)
                if isinstance(value, Data) and not value.name and (value.flow or value.cuts):
                    value.name = f"{base}[{index.value!r}]"
                labels.label(value, f"[{index.value!r}]", container)
            else:
                holder.rest = value if holder.rest is None else _either(run, holder.rest, value)
        case Seq():
            if isinstance(index, Const) and isinstance(index.value, int):
                if -len(holder.items) <= index.value < len(holder.items):
                    holder.items[index.value] = value
                    return
            holder.rest = value if holder.rest is None else _either(run, holder.rest, value)
        case Data():
            have = carried(value)
            holder.flow = merged([holder.flow, have.flow]) if run.grad else holder.flow
            holder.hidden = max(holder.hidden, have.hidden)
            holder.cuts = {**holder.cuts, **have.cuts}
            if holder.unknown and isinstance(index, Const) and not isinstance(value, Data | Const):
                run.unknowns[run.key("item", holder.key, index.key)] = value
        case Parameters(group=Optimizer() as optimizer):
            events.regroup(run, optimizer, value, frame, target)
        case Parameters():
            calls.write(run, holder, [value], frame.site(target))
        case Instance() if holder.cls is not None:
            method = holder.cls.find("__setitem__")
            if isinstance(method, Function):
                calls.call(run, method.bind(holder), [index, value], {}, frame, target)
        case _:
            return


def _either(run: Run, one: Value, two: Value) -> Value:
    if isinstance(one, Data) and isinstance(two, Data):
        return derive(run, "either", [one, two], two.site)
    return one if not isinstance(one, Const) else two


def _unpack(
    run: Run, target: ast.Tuple | ast.List, value: Value, frame: Frame, *, passing: bool
) -> None:
    count = len(target.elts)
    starred = next((i for i, t in enumerate(target.elts) if isinstance(t, ast.Starred)), None)
    items: list[Value] = []
    rest: Value | None = None
    if isinstance(value, Data):
        for number, inner in enumerate(target.elts):
            index = Const(number)
            part = expressions.subscript(run, value, index, frame, inner)
            if isinstance(part, Data) and not part.name and number == 0 and not value.unknown:
                part.name = ""
            bound = inner.value if isinstance(inner, ast.Starred) else inner
            assign(run, bound, part, frame, passing=passing)
        return
    if isinstance(value, Seq | Dict | Instance | Parameters):
        items, rest = elements(run, value, frame, target)
    for number, inner in enumerate(target.elts):
        if starred is not None and number == starred:
            taken = items[number : len(items) - (count - number - 1)]
            assign(run, inner.value, Seq(run.fresh(), taken, "list", rest), frame)  # type: ignore[attr-defined]
            continue
        place = number
        if starred is not None and number > starred:
            place = len(items) - (count - number)
        if 0 <= place < len(items):
            part = items[place]
        elif rest is not None:
            part = rest
        else:
            have = carried(value)
            part = run.data(frame.site(inner), have.flow, have.hidden)
        assign(run, inner, part, frame, passing=passing)


def take_defaults(run: Run, function: Function, arguments: ast.arguments, frame: Frame) -> None:
    """Evaluate a function's defaults where it is defined."""
    positional = [*arguments.posonlyargs, *arguments.args]
    for arg, default in zip(reversed(positional), reversed(arguments.defaults), strict=False):
        function.defaults[arg.arg] = expressions.evaluate(run, default, frame)
    for arg, inner in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if inner is not None:
            function.defaults[arg.arg] = expressions.evaluate(run, inner, frame)


# --- one function for each kind of statement -------------------------------------------------


def _expression(run: Run, node: ast.Expr, frame: Frame) -> str | None:
    value = expressions.evaluate(run, node.value, frame)
    if isinstance(value, Context) and value.key == ("context", "set", value.grad):
        run.grad = bool(value.grad)
    return None


def _assign(run: Run, node: ast.Assign, frame: Frame) -> str | None:
    value = expressions.evaluate(run, node.value, frame)
    for target in node.targets:
        assign(run, target, value, frame)
    return None


def _annotated(run: Run, node: ast.AnnAssign, frame: Frame) -> str | None:
    if node.value is not None:
        assign(run, node.target, expressions.evaluate(run, node.value, frame), frame)
    return None


def _augmented(run: Run, node: ast.AugAssign, frame: Frame) -> str | None:
    load = ast.copy_location(_as_load(node.target), node.target)
    left = expressions.evaluate(run, load, frame)
    right = expressions.evaluate(run, node.value, frame)
    if isinstance(left, Parameters) and left.one:
        calls.write(run, left, [right], frame.site(node))
        return None
    if isinstance(left, Seq) and isinstance(right, Seq | Data | Parameters):
        inner, rest = (
            elements(run, right, frame, node)
            if not isinstance(right, Parameters)
            else ([right], None)
        )
        left.items += inner
        left.rest = rest if rest is not None else left.rest
        left.key = run.fresh()
        return None
    value = expressions.operate(run, node.op, left, right, frame.site(node))
    if isinstance(value, Const) and _counts(run, node, value, frame):
        value = run.data(frame.site(node), key=run.key("counter", frame.site(node)))
    if isinstance(value, Data) and isinstance(left, Data):
        value.name = ""
        if isinstance(node.op, ast.Add | ast.Sub) and not value.terms and left.terms:
            value.terms = left.terms
    assign(run, node.target, value, frame)
    return None


def _counts(run: Run, node: ast.AugAssign, value: Const, frame: Frame) -> bool:
    """Say whether a number is counted up turn by turn, so that two turns do not tell what it is."""
    if isinstance(value.value, bool) or not isinstance(value.value, int | float):
        return False
    if run.loops:
        return run.loops[-1] < 0
    building = frame.function is None or frame.function.name == "__init__"
    return isinstance(node.target, ast.Attribute) and not building


def _as_load(target: ast.expr) -> ast.expr:
    match target:
        case ast.Name():
            return ast.Name(target.id, ast.Load())
        case ast.Attribute():
            return ast.Attribute(target.value, target.attr, ast.Load())
        case ast.Subscript():
            return ast.Subscript(target.value, target.slice, ast.Load())
        case _:
            return target


def _if(run: Run, node: ast.If, frame: Frame) -> str | None:
    leaves = bool(node.body) and isinstance(node.body[-1], _FALLS)
    stays = not (node.orelse and isinstance(node.orelse[-1], _FALLS))
    main = _is_main(node.test)
    otherwise = not (leaves and stays) or _is_last_resort(node, frame)
    asked = len(run.asked)
    taken = main or expressions.decide(run, node.test, frame, otherwise=otherwise)
    if taken and leaves and run.loops:
        run.cut.update(run.asked[asked:])
    doubt = any(id(part) in run.open for part in walk(node.test))
    run.branches += doubt
    try:
        return execute(run, node.body if taken else node.orelse, frame)
    finally:
        run.branches -= doubt


def _is_last_resort(node: ast.If, frame: Frame) -> bool:
    """Say whether what follows a condition only complains that no condition held."""
    function = frame.function.node if frame.function is not None else None
    if function is None or isinstance(function, ast.Lambda):
        return False
    known: set[int] | None = getattr(function, "_last_resorts", None)
    if known is None:
        known = {id(last) for block in _blocks(function) for last in _last_resorts(block)}
        function._last_resorts = known  # type: ignore[union-attr]  # noqa: SLF001
    return id(node) in known


def _blocks(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[list[ast.stmt]]:
    for inner in walk(function):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(inner, name, None)
            if isinstance(block, list):
                yield block


def _last_resorts(block: Sequence[ast.stmt]) -> Iterator[ast.If]:
    for statement, following in pairwise(block):
        if isinstance(statement, ast.If) and isinstance(following, ast.Raise):
            last = statement
            while len(last.orelse) == 1 and isinstance(last.orelse[0], ast.If):
                last = last.orelse[0]
            if not isinstance(last.body[-1], ast.Raise):
                yield last


def _is_main(test: ast.expr) -> bool:
    match test:
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()]):
            return True
        case ast.Compare(comparators=[ast.Name(id="__name__")], ops=[ast.Eq()]):
            return True
        case _:
            return False


def _for(run: Run, node: ast.For | ast.AsyncFor, frame: Frame) -> str | None:
    source = expressions.evaluate(run, node.iter, frame)
    spent = source.spent if isinstance(source, Parameters) else None
    found, rest = elements(run, source, frame, node.iter)
    turns = list(found)
    if rest is not None:
        turns += [rest, rest]
    known = rest is None and isinstance(source, Seq | Dict | Instance | Parameters)
    known = known and not (isinstance(source, Seq) and source.kind == "range")
    if not (isinstance(source, Seq) and source.kind == "indices"):
        known = known and any(_tells_apart(turn) for turn in turns)
    if not turns and spent is not None:
        run.note("spent iterator", frame.site(node), source, node)
    run.loops.append(0)
    try:
        for number, element in enumerate(turns):
            run.loops[-1] = number if known else -1
            if number and not known:
                run.restart()
            assign(run, node.target, element, frame, passing=True)
            left = execute(run, node.body, frame)
            if left == "break":
                break
            if left == "return":
                return left
        else:
            return execute(run, node.orelse, frame)
    finally:
        run.loops.pop()
    return None


def _tells_apart(turn: Value) -> bool:
    """Say whether turns of a loop train something else each: not those over batches of data."""
    if isinstance(turn, Seq):
        return any(_tells_apart(item) for item in turn.items)
    if isinstance(turn, Const):
        return isinstance(turn.value, str)
    return not isinstance(turn, Data)


def _while(run: Run, node: ast.While, frame: Frame) -> str | None:
    if isinstance(node.test, ast.Constant) and not node.test.value:
        return None
    run.loops.append(-1)
    try:
        for number in range(2):
            if number:
                run.restart()
            known = expressions.evaluate(run, node.test, frame)
            if isinstance(known, Const) and not known.value:
                break
            left = execute(run, node.body, frame)
            if left == "break":
                break
            if left == "return":
                return left
    finally:
        run.loops.pop()
    return None


def _with(run: Run, node: ast.With | ast.AsyncWith, frame: Frame) -> str | None:
    return _enter(run, node, 0, frame)


def _enter(run: Run, node: ast.With | ast.AsyncWith, number: int, frame: Frame) -> str | None:
    if number == len(node.items):
        return execute(run, node.body, frame)
    item = node.items[number]
    value = expressions.evaluate(run, item.context_expr, frame)
    left: list[str | None] = [None]

    def inside(result: Value) -> None:
        if item.optional_vars is not None:
            assign(run, item.optional_vars, result, frame)
        left[0] = _enter(run, node, number + 1, frame)

    calls.enter(run, value, inside, frame, item.context_expr)
    return left[0]


def _try(run: Run, node: ast.Try, frame: Frame) -> str | None:
    left = execute(run, node.body, frame)
    if left is None:
        left = execute(run, node.orelse, frame)
    finally_left = execute(run, node.finalbody, frame)
    return finally_left or left


def _return(run: Run, node: ast.Return, frame: Frame) -> str | None:
    frame.returned = expressions.evaluate(run, node.value, frame)
    return "return"


def _raise(run: Run, node: ast.Raise, frame: Frame) -> str | None:
    return "return"


def _break(run: Run, node: ast.Break, frame: Frame) -> str | None:
    return "break"


def _continue(run: Run, node: ast.Continue, frame: Frame) -> str | None:
    return "continue"


def _define(run: Run, node: ast.FunctionDef | ast.AsyncFunctionDef, frame: Frame) -> str | None:
    function = Function(node, frame.file, frame.scope, frame.cls)
    take_defaults(run, function, node.args, frame)
    value: Value = function
    name = node.name
    for decorator in reversed(node.decorator_list):
        value, name = _decorated(run, value, decorator, frame, name)
    _scope_of(run, name, frame).names[name] = value
    return None


def _decorated(
    run: Run, value: Value, decorator: ast.expr, frame: Frame, name: str
) -> tuple[Value, str]:
    match decorator:
        case ast.Name(id="staticmethod") if isinstance(value, Function):
            value.kind = "static"
            return value, name
        case ast.Name(id="classmethod") if isinstance(value, Function):
            value.kind = "class"
            return value, name
        case ast.Name(id="property") if isinstance(value, Function):
            value.kind = "property"
            return value, name
        case ast.Attribute(attr="setter"):
            return value, f"{name}.setter"
        case _:
            pass
    wrapper = expressions.evaluate(run, decorator, frame)
    if isinstance(value, Function):
        match wrapper:
            case Context() if wrapper.grad is not None:
                value.modes = (*value.modes, wrapper.grad)
                return value, name
            case Library():
                short = wrapper.name.rpartition(".")[2]
                if short in ("no_grad", "inference_mode"):
                    value.modes = (*value.modes, False)
                elif short == "enable_grad":
                    value.modes = (*value.modes, True)
                elif "property" in short:
                    value.kind = "property"
                elif short in ("contextmanager", "asynccontextmanager"):
                    value.kind = "context"
                return value, name
            case Function() | Partial():
                return calls.call(run, wrapper, [value], {}, frame, decorator), name
            case Instance() if wrapper.cls is not None:
                return calls.call(run, wrapper, [value], {}, frame, decorator), name
            case Class():
                return value, name
            case _:
                return value, name
    return value, name


def _class(run: Run, node: ast.ClassDef, frame: Frame) -> str | None:
    made = Class(node, frame.file, frame.scope)
    for base in node.bases:
        value = expressions.evaluate(run, base, frame)
        made.bases.append(value)
        if isinstance(value, Class):
            made.module |= value.module
            made.lib = made.lib or value.lib
            made.open |= value.open
        elif isinstance(value, Library):
            if value.name not in _NO_BEHAVIOUR:
                made.lib = made.lib or value.name
                made.open = True
            if calls.is_module_class(value.name):
                made.module = True
                made.lib = value.name
        elif isinstance(value, Data):
            made.open = True
            if "Module" in ast.unparse(base):
                made.module = True
    inner = Frame(frame.file, Scope(frame.scope))
    inner.cls = made
    execute(run, node.body, inner)
    # Methods do not see the names of the class body.
    for value in inner.scope.names.values():
        if isinstance(value, Function) and value.scope is inner.scope:
            value.scope = frame.scope
            value.cls = made
    made.attrs = inner.scope.names
    result: Value = made
    for decorator in reversed(node.decorator_list):
        # With arguments or without, it is the same decorator.
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        wrapper = expressions.evaluate(run, called, frame)
        if isinstance(wrapper, Partial):
            wrapper = wrapper.func
        name = wrapper.name if isinstance(wrapper, Library) else ""
        if name.rpartition(".")[2] in ("dataclass", "define", "attrs", "frozen", "mutable"):
            made.attrs["__dataclass__"] = Const(True)
    if any(isinstance(b, Library) and b.name.endswith("NamedTuple") for b in made.bases):
        made.attrs["__dataclass__"] = Const(True)
    frame.scope.names[node.name] = result
    return None


_NO_BEHAVIOUR = frozenset(
    {
        "builtins.object",
        "abc.ABC",
        "typing.Generic",
        "typing.Protocol",
        "typing.NamedTuple",
        "enum.Enum",
    }
)


def _import(run: Run, node: ast.Import, frame: Frame) -> str | None:
    names.import_module(run, node, frame)
    return None


def _import_from(run: Run, node: ast.ImportFrom, frame: Frame) -> str | None:
    names.import_from(run, node, frame)
    return None


def _global(run: Run, node: ast.Global, frame: Frame) -> str | None:
    frame.globals.update(node.names)
    return None


def _nonlocal(run: Run, node: ast.Nonlocal, frame: Frame) -> str | None:
    frame.nonlocals.update(node.names)
    return None


def _delete(run: Run, node: ast.Delete, frame: Frame) -> str | None:
    for target in node.targets:
        if isinstance(target, ast.Subscript):
            holder = expressions.evaluate(run, target.value, frame)
            index = expressions.evaluate(run, target.slice, frame)
            if isinstance(holder, Dict) and isinstance(index, Const):
                holder.items.pop(index.value, None)
    return None


def _match(run: Run, node: ast.Match, frame: Frame) -> str | None:
    subject = expressions.evaluate(run, node.subject, frame)
    for case in node.cases:
        taken = _matches(run, case.pattern, subject, frame)
        if taken and case.guard is not None:
            taken = expressions.decide(run, case.guard, frame)
        if taken:
            return execute(run, case.body, frame)
    return None


def _matches(run: Run, pattern: ast.pattern, subject: Value, frame: Frame) -> bool:
    match pattern:
        case ast.MatchValue():
            wanted = expressions.evaluate(run, pattern.value, frame)
            if isinstance(wanted, Const) and isinstance(subject, Const):
                return wanted.value == subject.value
            key = run.key("compare", "Eq", subject.key, wanted.key)
            return run.decisions.setdefault(key, True)
        case ast.MatchSingleton():
            return isinstance(subject, Const) and subject.value is pattern.value
        case ast.MatchAs():
            if pattern.pattern is not None and not _matches(run, pattern.pattern, subject, frame):
                return False
            if pattern.name is not None:
                frame.scope.names[pattern.name] = subject
            return True
        case ast.MatchOr():
            return any(_matches(run, inner, subject, frame) for inner in pattern.patterns)
        case ast.MatchSequence():
            items, rest = elements(run, subject, frame, pattern)
            if rest is None and len(items) != len(pattern.patterns):
                return False
            for number, inner in enumerate(pattern.patterns):
                part = items[number] if number < len(items) else rest
                if part is not None and not _matches(run, inner, part, frame):
                    return False
            return True
        case ast.MatchMapping():
            for key, inner in zip(pattern.keys, pattern.patterns, strict=True):
                index = expressions.evaluate(run, key, frame)
                part = expressions.subscript(run, subject, index, frame, key)
                if not _matches(run, inner, part, frame):
                    return False
            return True
        case ast.MatchClass():
            for name, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
                part = attributes.get(run, subject, name, frame, pattern)
                if not _matches(run, inner, part, frame):
                    return False
            return True
        case _:
            return True


_RULES: dict[type[ast.stmt], Callable[..., str | None]] = {
    ast.Expr: _expression,
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.If: _if,
    ast.For: _for,
    ast.AsyncFor: _for,
    ast.While: _while,
    ast.With: _with,
    ast.AsyncWith: _with,
    ast.Try: _try,
    ast.Return: _return,
    ast.Raise: _raise,
    ast.Break: _break,
    ast.Continue: _continue,
    ast.FunctionDef: _define,
    ast.AsyncFunctionDef: _define,
    ast.ClassDef: _class,
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    ast.Global: _global,
    ast.Nonlocal: _nonlocal,
    ast.Delete: _delete,
    ast.Match: _match,
}
if hasattr(ast, "TryStar"):
    _RULES[ast.TryStar] = _try
