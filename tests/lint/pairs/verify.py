"""Run every pair and check that its wrong effect is in `bad.py` and not in `good.py`.

    python tests/lint/pairs/verify.py [--fixed] [NAME ...]

With `--fixed` the place of `good.py` is taken by `bad.py` as `gradguard lint --fix --unsafe-fixes`
leaves it, for the pairs for which it has a fix and whose effect is not that of a term: the tracer
knows terms by their names, and the fix may cut off what is made of them.

Each script runs in a process of its own. The tracer watches the autograd engine and every
optimizer step, so it judges what happened to `.grad` and to the parameters, not what the source
says. `truth.json` names the loss by its backward lines and the models by expressions in scope; its
optional `verify` table holds `term` (a term of that loss), `kind` (`twice`, `state`, `written`),
`when` (count only while this holds) and `reaches` or `designated` (other spellings of a model).
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # Every optimizer imports it: once here, not once in each process.
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

HERE = Path(__file__).resolve().parent


@dataclass
class Seen:
    """What one run did to one model."""

    deposits: int = 0
    spent: int = 0
    twice: int = 0
    moved: int = 0
    written: int = 0
    state: int = 0
    found: bool = False


@dataclass
class Tracer:
    """Follow the gradient of one loss into the models that the truth names."""

    folder: Path
    lines: set[int]
    models: dict[str, list[str]]
    term: str | None
    when: str | None
    script: str
    leaves: dict[int, Any] = field(default_factory=dict)
    owners: dict[str, set[int]] = field(default_factory=dict)
    first: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)
    open: dict[int, list[int]] = field(default_factory=dict)
    deposits: set[tuple[int, int]] = field(default_factory=set)
    spends: list[tuple[int, int]] = field(default_factory=list)
    moved: set[int] = field(default_factory=set)
    before: dict[int, Any] = field(default_factory=dict)
    after: dict[int, Any] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    clock: int = 0
    entered: int = 0

    def frames(self) -> list[Any]:
        """Return the frames of the program, innermost first."""
        frame: Any = sys._getframe(1)
        found = []
        while frame is not None:
            if Path(frame.f_code.co_filename).parent == self.folder:
                found.append(frame)
            frame = frame.f_back
        return found

    def value(self, expression: str, frames: list[Any]) -> Any:
        """Evaluate an expression in the first frame that knows it."""
        for frame in frames:
            try:
                return eval(expression, frame.f_globals, dict(frame.f_locals))  # noqa: S307
            except Exception:  # noqa: BLE001, S112
                continue
        return None

    def tensors(self, value: Any) -> list[Any]:
        """List parameters and buffers below a model, a parameter or a container of them."""
        if isinstance(value, torch.nn.Module):
            return [*value.parameters(), *value.buffers()]
        if isinstance(value, torch.Tensor):
            return [value]
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            return [t for item in value for t in self.tensors(item)]
        return []

    def look(self, frames: list[Any]) -> None:
        """Resolve the models' names where the program stands now."""
        if self.when and not self.value(self.when, frames):
            return
        for role, expressions in self.models.items():
            for expression in expressions:
                found = self.tensors(self.value(expression, frames))
                if found and role not in self.first:
                    self.first[role] = [(t, t.detach().clone()) for t in found]
                for tensor in found:
                    self.leaves[id(tensor)] = tensor
                    self.owners.setdefault(role, set()).add(id(tensor))

    def forget_cleared(self) -> None:
        """Drop the deposits of parameters whose gradient is None or zero by now."""
        for key in list(self.open):
            grad = self.leaves[key].grad
            if grad is None or not grad.any():
                del self.open[key]

    def on_backward(self, run: Any, outputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a backward pass and note where it left gradient."""
        if not kwargs.get("accumulate_grad", False):
            return run(outputs, *args, **kwargs)
        frames = self.frames()
        self.look(frames)
        self.forget_cleared()
        mine = any(
            Path(f.f_code.co_filename).name == self.script and f.f_lineno in self.lines
            for f in frames
        )
        mine = mine and (not self.when or bool(self.value(self.when, frames)))
        leaves = leaves_below(outputs)
        old = {id(p): None if p.grad is None else p.grad.detach().clone() for p in leaves}
        reached = None
        if mine and self.term:
            term = self.value(self.term, frames)
            if isinstance(term, torch.Tensor) and term.requires_grad:
                grads = torch.autograd.grad(
                    term.sum(), leaves, retain_graph=True, allow_unused=True
                )
                reached = {
                    id(p)
                    for p, g in zip(leaves, grads, strict=True)
                    if g is not None and bool(g.any())
                }
            else:
                reached = set()
        result = run(outputs, *args, **kwargs)
        self.clock += 1
        for p in leaves:
            was, now = old[id(p)], p.grad
            changed = now is not None and bool((now if was is None else now - was).any())
            if not changed:
                continue
            self.leaves[id(p)] = p
            ours = mine and (reached is None or id(p) in reached)
            self.open.setdefault(id(p), []).append(self.clock if ours else -self.clock)
            if ours:
                self.deposits.add((id(p), self.clock))
        return result

    def held(self, optimizer: Any) -> list[Any]:
        """List the parameters of an optimizer."""
        return [p for group in optimizer.param_groups for p in group["params"]]

    def before_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Note which deposits a step is about to consume."""
        self.look(self.frames())
        self.forget_cleared()
        self.before = {id(p): p.detach().clone() for p in self.held(optimizer)}
        self.entered = self.clock
        for key, value in self.before.items():
            if key in self.after and not value.equal(self.after[key]):
                self.written.add(key)
        for p in self.held(optimizer):
            self.spends += [(id(p), d) for d in self.open.get(id(p), ()) if d > 0]

    def after_step(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Note what a step consumed from its closure and what moved without any gradient."""
        for p in self.held(optimizer):
            late = [d for d in self.open.get(id(p), ()) if d > self.entered]
            self.spends += [(id(p), d) for d in late]
            was = self.before.get(id(p))
            if was is not None and not self.open.get(id(p)) and not was.equal(p.detach()):
                self.leaves[id(p)] = p
                self.moved.add(id(p))
            self.after[id(p)] = p.detach().clone()

    def seen(self, role: str) -> Seen:
        """Sum up one model."""
        own = self.owners.get(role, set())
        spends = [s for s in self.spends if s[0] in own]
        return Seen(
            deposits=sum(d[0] in own for d in self.deposits),
            spent=len(spends),
            twice=len(spends) - len(set(spends)),
            moved=len(self.moved & own),
            written=len(self.written & own),
            state=sum(not t.detach().equal(v) for t, v in self.first.get(role, ())),
            found=bool(own),
        )


def leaves_below(outputs: Any) -> list[Any]:
    """List the leaf tensors that a backward from these outputs reaches."""
    todo = [t.grad_fn for t in outputs if t.grad_fn is not None]
    direct = [t for t in outputs if t.grad_fn is None and t.requires_grad]
    known = set()
    found = {id(t): t for t in direct}
    while todo:
        node = todo.pop()
        if node is None or node in known:
            continue
        known.add(node)
        if hasattr(node, "variable") and node.variable.is_leaf:
            found[id(node.variable)] = node.variable
        todo += [n for n, _ in node.next_functions]
    return list(found.values())


def trace(folder: Path, script: str) -> dict[str, dict[str, Any]]:
    """Run one script under the tracer and return what became of each model."""
    truth = json.loads((folder / "truth.json").read_text())
    extra = truth.get("verify", {})
    models = {}
    for role in ("reaches", "designated"):
        names = extra.get(role) or [truth[role]]
        models[role] = [names] if isinstance(names, str) else list(names)
    tracer = Tracer(
        folder=folder,
        lines=set(truth["backward_lines"][script.removesuffix(".py")]),
        models=models,
        term=extra.get("term"),
        when=extra.get("when"),
        script=script,
    )
    run = torch.autograd._engine_run_backward
    torch.autograd._engine_run_backward = lambda *a, **k: tracer.on_backward(run, *a, **k)
    register_optimizer_step_pre_hook(tracer.before_step)
    register_optimizer_step_post_hook(tracer.after_step)
    sys.path.insert(0, str(folder))
    sys.argv = [script]
    runpy.run_path(str(folder / script), run_name="__main__")
    return {role: vars(tracer.seen(role)) for role in models}


def judge(truth: dict[str, Any], bad: dict[str, Any], good: dict[str, Any]) -> list[str]:  # noqa: C901
    """Say what of a pair does not hold."""
    kind = truth.get("verify", {}).get("kind")
    effect, was, now = truth["effect"], bad["reaches"], good["reaches"]
    wrong = []

    def expect(what: str, holds: object) -> None:
        if not holds:
            wrong.append(what)

    expect("the model is seen", was["found"] and now["found"])
    if kind == "state":
        expect("bad: state changes", was["state"])
        expect("good: state stays", not now["state"])
        return wrong
    if kind == "written":
        expect("bad: something else writes what an optimizer holds", was["written"])
        expect("good: nothing does", not now["written"])
        return wrong
    if effect in {"applied", "stale"}:
        key = "twice" if kind == "twice" else "spent"
        expect(f"bad: foreign gradient is {key}", was[key])
        expect(f"good: no foreign gradient is {key}", not now[key])
    elif effect == "spilled":
        expect("bad: foreign gradient is deposited", was["deposits"])
        expect("bad: no step uses it", not was["spent"])
        expect("good: no foreign gradient is deposited", not now["deposits"])
    elif effect == "starved":
        if truth["starved_kind"] == "no_path":
            expect("bad: no gradient arrives", not was["deposits"])
        elif truth["starved_kind"] == "not_stepped":
            expect("bad: gradient arrives", was["deposits"])
        expect("bad: no step uses any", not was["spent"])
        expect("good: a step uses it", now["spent"])
    elif effect == "moved":
        expect("bad: parameters move without gradient", was["moved"])
        expect("good: none does", not now["moved"])
    if effect in {"applied", "spilled"} and not truth.get("verify", {}).get("term"):
        expect("good: the loss trains its own model", good["designated"]["spent"])
    return wrong


def fix(name: str, into: Path) -> bool:
    """Copy a pair to a folder, with `bad.py` fixed as its `good.py`; say whether it has a fix."""
    from gradguard.commands.fixing import fix_files
    from gradguard.lint import Sources, lint_sources

    if "term" in json.loads((HERE / name / "truth.json").read_text()).get("verify", {}):
        return False
    shutil.copytree(HERE / name, into)
    sources = Sources.find([into / "bad.py"])
    fixed = list(fix_files(sources, lint_sources(sources, jobs=1, fixes=True), unsafe=True))
    if not fixed:
        return False
    (into / "good.py").write_bytes(fixed[0].content)
    truth = json.loads((into / "truth.json").read_text())
    old, new = fixed[0].before.splitlines(), fixed[0].after.splitlines()
    steps = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    rows = {
        first + n + 1: other + n + 1
        for _, first, last, other, end in steps
        for n in range(min(last - first, end - other))
    }
    lines = truth["backward_lines"]
    lines["good"] = [rows[row] for row in lines["bad"] if row in rows]
    (into / "truth.json").write_text(json.dumps(truth))
    return True


def attempt(job: tuple[str, str]) -> dict[str, dict[str, Any]] | str:
    """Trace one script with its own output thrown away; return what happened, or the error."""
    name, script = job
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            return trace(Path(name), script)
        except Exception:  # noqa: BLE001
            return f"{script} fails: {traceback.format_exc(limit=-2)}"


def check(name: str, results: list[Any]) -> list[str]:
    """Return what does not hold of a pair, given what its two runs did."""
    errors = [r for r in results if isinstance(r, str)]
    if errors:
        return errors
    truth = json.loads((Path(name) / "truth.json").read_text())
    return judge(truth, *results)


def main() -> int:
    """Check the pairs that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    names = options.names or sorted(p.parent.name for p in HERE.glob("*/truth.json"))
    with tempfile.TemporaryDirectory() as scratch:
        folders = [HERE / name for name in names]
        if options.fixed:
            folders = [Path(scratch) / name for name in names if fix(name, Path(scratch) / name)]
        jobs = [(str(folder), script) for folder in folders for script in ("bad.py", "good.py")]
        # A process for each script, forked after torch was imported: hooks and patches end with it.
        with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=1) as pool:
            runs = pool.map(attempt, jobs, chunksize=1)
        return report(folders, runs, verbose=options.verbose)


def report(folders: list[Path], runs: list[Any], *, verbose: bool) -> int:
    """Print what holds; return how the command is to end."""
    failed = 0
    for folder, *results in zip(folders, runs[::2], runs[1::2], strict=True):
        wrong = check(str(folder), results)
        failed += bool(wrong)
        shown = results if verbose or wrong else []
        print("FAIL" if wrong else "ok  ", folder.name, *wrong, *shown, sep="  ")  # noqa: T201
    print(f"{len(folders) - failed} of {len(folders)} pairs hold")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
