"""What an observed program comes to: models, losses, a policy, and what the ledger says of it."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import CodeType

from gradguard.core.cases import Case
from gradguard.core.codes import code
from gradguard.core.events import Account, Backward, Clear, Deposit, Event, Evidence, Holder, Spend
from gradguard.core.findings import Finding, Place, TraceStep
from gradguard.core.flow import FlowMatrix, matrix_of
from gradguard.core.inference import infer
from gradguard.core.judgement import judge
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy, Rule, matches
from gradguard.core.timeline import Timeline
from gradguard.core.verdicts import Saw
from gradguard.runtime.names import loss_names
from gradguard.runtime.observe.causes import told_once
from gradguard.runtime.observe.census import Branch, Census, bits, paths, place_of_program
from gradguard.runtime.observe.declared import written
from gradguard.runtime.observe.observer import Observer
from gradguard.runtime.observe.passages import Lead, Part, Passage, Told
from gradguard.runtime.observe.tape import Happened, What
from gradguard.runtime.sites import Site, _place
from gradguard.runtime.trail import follow_call

__all__ = ["Story", "tell"]

_REPEATS = 12


@dataclass(slots=True)
class Story:
    """What was seen.

    Attributes:
        findings: What was found.
        matrix: Which loss reaches which model.
        policy: What was inferred, or declared.
        unresolved: Names that a policy declares and that the program never used.
        losses: The names of all losses and terms.
        models: The names of all models.
        timeline: The first events of the ledger.
        figures: How much was seen, by what it is of.
    """

    findings: list[Finding] = field(default_factory=list)
    matrix: FlowMatrix | None = None
    policy: Policy = field(default_factory=lambda: Policy({}))
    unresolved: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    timeline: Timeline | None = None
    figures: dict[str, int] = field(default_factory=dict)


def tell(observer: Observer) -> Story:
    """Conclude what an observer has seen."""
    return _Teller(observer).story()


class _Teller:
    def __init__(self, observer: Observer) -> None:
        self.seen = observer
        self.census: Census = observer.census
        self.passages = observer.reader.passages
        self.stepped = [held for held in self.census.optimizers if held.steps]
        self.declared = {n: m for n, m in observer.declared.models.items() if m}
        self.trained, self.held = 0, 0
        for held in self.stepped:
            self.trained |= held.mask
        for held in self.census.optimizers:
            self.held |= held.mask
        self.reached = 0
        for passage in self.passages:
            self.reached |= passage.arrives
        self.models: dict[str, int] = {}
        self.holders: dict[int, tuple[int, ...]] = {}
        self.atoms: list[tuple[int, Account]] = []
        self.names: dict[int, str] = {}
        self.found: list[Finding] = []
        named = Counter(n for branch in self.census.branches() for n in set(branch.names))
        # A variable of a loop or a comprehension, or an attribute of many instances.
        self._shared_names = {name for name, count in named.items() if count > 1}
        self._group()
        self._name_losses()

    # Models

    def _held_by(self, number: int) -> tuple[int, ...]:
        return tuple(
            n for n, h in enumerate(self.census.optimizers) if h.steps and h.mask >> number & 1
        )

    def _sign(self, mask: int) -> set[tuple[object, ...]]:
        """Return the signatures of parameters: who steps them, and which losses reach them."""
        signs: set[tuple[object, ...]] = set()
        for number in bits(mask & (self.trained | self.reached)):
            reaching = tuple(p.number for p in self.passages if p.whole.reach >> number & 1)
            signs.add((self._held_by(number), reaching))
        return signs

    def _group(self) -> None:
        relevant = self.trained | self.reached
        done = 0
        roots = sorted(self.census.roots, key=lambda r: -r.mask.bit_count())
        tops: list[Branch] = []
        for root in roots:
            if root.names or not any(t.mask & root.mask for t in tops):
                tops.append(root)
        chosen: list[tuple[Branch, str]] = []
        for root in [*tops, *self.census._bare.values()]:
            if root.mask & relevant & ~done:
                for branch, name in self._split(root, self._best(root, "model")):
                    if branch.mask & relevant & ~done:
                        chosen.append((branch, name))
                        done |= branch.mask
        left = relevant & ~done
        chosen += [(Branch(1 << number, 1 << number), "parameter") for number in bits(left)]
        taken: set[str] = set()
        for branch, name in chosen:
            unique, count = name, 2
            while unique in taken:
                unique, count = f"{name} ({count})", count + 1
            taken.add(unique)
            self.models[unique] = branch.mask & relevant
        self._divide()

    def _best(self, branch: Branch, fallback: str) -> str:
        """Return the name by which the program tells a model from others, the earliest of them."""
        names = sorted(_told_apart(branch), key=lambda name: name in self._shared_names)
        return names[0] if names else branch.kind or fallback

    def _split(self, root: Branch, name: str) -> list[tuple[Branch, str]]:
        known = self._best(root, "") if any(_told_apart(root)) else name
        name = known if _nicer(known, name) else name
        signs = self._sign(root.mask)
        parts = [(key, part) for key, part in root.parts]
        covered = 0
        for _, part in parts:
            covered |= part.mask
        if len(signs) <= 1 or not parts:
            return [(root, name)]
        found: list[tuple[Branch, str]] = []
        for path, part in paths(root, name):
            if any(part is inner for _, inner in parts):
                found += self._split(part, path)
        rest = root.mask & ~covered
        if rest:
            found.append((Branch(rest, rest), name))
        return found

    def _divide(self) -> None:
        cells: dict[tuple[tuple[str, ...], str, tuple[int, ...]], int] = {}
        for name, mask in self.models.items():
            for number in bits(mask):
                owners = tuple(n for n, m in self.declared.items() if m >> number & 1 and n != name)
                key = (owners, name, self._held_by(number))
                cells[key] = cells.get(key, 0) | 1 << number
        parts: dict[tuple[str, ...], int] = {}
        for (declared, name, _), mask in cells.items():
            owners = (*declared, name)
            number = parts[owners] = parts.get(owners, -1) + 1
            self.atoms.append((mask, Account(owners, number)))

    def accounts(self, mask: int) -> frozenset[Account]:
        return frozenset(account for own, account in self.atoms if own & mask)

    # Losses

    def _name_losses(self) -> None:
        by_name: dict[str, list[Passage]] = {}
        self.known_as: dict[int, tuple[str, ...]] = {}
        for passage in self.passages:
            names = tuple(written(name) for name in loss_names(passage.where))
            self.known_as[passage.number] = names
            by_name.setdefault(_loss_name(names), []).append(passage)
        for name, passages in by_name.items():
            clusters: list[tuple[int, list[Passage]]] = []
            for passage in passages:
                mask, members = passage.whole.reach, [passage]
                rest = []
                for other, theirs in clusters:
                    if other & mask or not other or not mask:
                        mask, members = mask | other, theirs + members
                    else:
                        rest.append((other, theirs))
                clusters = [*rest, (mask, members)]
            taken: set[str] = set()
            for count, (mask, members) in enumerate(clusters, 1):
                reached = [model for model, own in self.models.items() if own & mask]
                # One call site serves several losses: a model says more than a number.
                unique = name if count == 1 else f"{name} ({count})"
                if count > 1 and len(reached) == 1 and not reached[0].endswith(")"):
                    by_model = f"{name} ({reached[0]})"
                    unique = unique if by_model in taken else by_model
                taken.add(unique)
                for passage in members:
                    self.names[passage.number] = unique

    def _rule(self, passage: Passage) -> Rule | None:
        declared = self.seen.declared.policy
        for name in (self.names[passage.number], *self.known_as[passage.number]):
            for loss, rule in declared.rules.items():
                if written(loss) == name or matches(name, loss):
                    return rule
        return None

    # Events

    def _deposits(self, part: Part, arrives: int, rule: Rule | None) -> tuple[Deposit, ...]:
        deposits = []
        for mask, account in self.atoms:
            if not mask & arrives:
                continue
            around = self._around(mask, account, rule)
            behind = self.accounts(part.below(around & part.reach)) - {account}
            held = any(h.mask & mask for h in self.census.optimizers)
            holder = Holder.OPTIMIZER if held else Holder.NOBODY
            if not held and self.is_twin(mask):
                holder = Holder.SHADOW
            deposits.append(Deposit(account, behind, holder=holder))
        return tuple(deposits)

    def _around(self, mask: int, account: Account, rule: Rule | None) -> int:
        """Return the parameters that are judged together with those of an account."""
        if rule is not None:
            _, owner = rule.stance(account.owners)
            around = mask | self.declared.get(owner, self.models.get(owner, mask))
        else:
            around = mask | self.models.get(account.owners[-1], mask)
        holders = self._held_by(next(bits(mask)))
        if not holders:
            return around
        for own, _ in self.atoms:
            if self._held_by(next(bits(own))) == holders:
                around |= own
        return around

    def held_with(self, optimizer: int) -> int:
        """Return what an optimizer was seen to hold."""
        return self.census.optimizers[optimizer].mask

    def has_twin(self, branch: Branch) -> bool:
        """Say whether a module has the shape of another one that some loss reaches."""
        return any(
            other.shape == branch.shape and other.mask & self.reached and not other.bare
            for other in self.census.branches()
        )

    def is_twin(self, mask: int) -> bool:
        """Say whether parameters belong to a copy of what is trained."""
        branches = list(self.census.branches())
        mine = [b.shape for b in branches if b.shape and b.mask & mask == mask and not b.bare]
        return any(
            b.shape in mine and b.mask & self.trained and not b.mask & mask for b in branches
        )

    def _backward(self, passage: Passage, name: str, part: Part, rule: Rule | None) -> Backward:
        arrives = part.reach & passage.arrives
        live = arrives & passage.live or (arrives if passage.live == 0 and passage.blind else 0)
        shown = 0
        for mask, _ in self.atoms:
            if mask & live:
                shown |= mask & arrives
        deposits = self._deposits(part, shown, rule)
        return Backward(name, deposits, place_of_program(passage.where), blind=passage.blind)

    def _event(self, happened: Happened, whole: dict[int, Backward]) -> Event | None:
        what = happened.what
        if what is What.BACKWARD:
            return whole[happened.number]
        accounts = self.accounts_within(happened.mask)
        if what is What.CLEAR:
            return Clear(accounts)
        held = self.census.optimizers[happened.number]
        where = self.seen.places[happened.where]
        return Spend(
            self._optimizer(happened.number), self.accounts(held.mask), place_of_program(where)
        )

    def accounts_within(self, mask: int) -> frozenset[Account]:
        alive = self.reached
        return frozenset(a for own, a in self.atoms if own & mask and not own & alive & ~mask)

    def _optimizer(self, number: int) -> str:
        held = self.census.optimizers[number]
        name = held.name or held.kind
        same = [n for n, h in enumerate(self.census.optimizers) if (h.name or h.kind) == name]
        return name if same[0] == number else f"{name} ({same.index(number) + 1})"

    # Judging

    def story(self) -> Story:
        whole = {
            p.number: self._backward(p, self.names[p.number], p.whole, self._rule(p))
            for p in self.passages
        }
        turns = [
            [event for event in (self._event(h, whole) for h in turn) if event is not None]
            for turn in self.seen.tape.turns()
        ]
        # A turn that was cut short may lack steps: what it was meant for is not known.
        whole_turns = itertools.compress(turns, self.seen.tape.whole)
        inferred = infer(event for turn in whole_turns for event in turn)
        rules: dict[str, Rule] = dict(inferred.rules)
        terms: dict[int, list[Backward]] = {}
        declared = self.seen.declared.policy
        used: set[str] = set()
        for passage in self.passages:
            rule = self._rule(passage)
            if rule is not None:
                rules[self.names[passage.number]] = rule
                used |= {n for n, r in declared.rules.items() if r is rule}
            for name, told in self._terms(passage):
                rule = declared.rules.get(name) or next(
                    (r for n, r in declared.rules.items() if written(n) == name), None
                )
                if rule is not None:
                    used |= {n for n, r in declared.rules.items() if r is rule}
                    rules[name] = rule
                    event = self._backward(passage, name, told.part, rule)
                    terms.setdefault(passage.number, []).append(event)
        self._reached_musts(rules, whole, terms)
        timeline = Timeline(Policy(rules), [*self.declared, *self.models])
        ledger = self._replay(Policy(rules), turns, whole, terms, timeline)
        ledger.end()
        cases = ledger._cases.by_cause
        self.found += [self._told(c) for c in cases.values() if not self._told_by_term(c, cases)]
        from gradguard.runtime.observe.facts import facts

        declared_of = {
            name: self.names[p.number]
            for p in self.passages
            for name in (
                *(n for n, _ in self._terms(p) if n in rules),
                *([self.names[p.number]] if self._rule(p) is not None else ()),
            )
        }
        held = {name for name, mask in self.models.items() if mask & self.held}
        self.found = told_once(self.found, facts(self, turns), declared=declared_of, held=held)
        names = [*self.declared, *self.models]
        self._add_terms(ledger, rules)
        matrix = matrix_of(ledger, dict.fromkeys(names))
        unresolved = [n for n in declared if n not in used]
        unresolved += [
            n
            for n, mask in self.seen.declared.models.items()
            if not mask and not any(matches(model, n) for model in names)
        ]
        return Story(
            [f for f in self.found if code(f.code).on_by_default],
            matrix,
            Policy(rules),
            unresolved,
            list(
                dict.fromkeys([*self.names.values(), *(t for p in self.passages for t in p.terms)])
            ),
            names,
            timeline,
            {
                "backward passes read": sum(passage.count for passage in self.passages),
                "optimizer steps": sum(held.steps for held in self.census.optimizers),
            },
        )

    def _terms(self, passage: Passage) -> Iterator[tuple[str, Told]]:
        """Yield the terms of a loss, without other names of the loss itself."""
        own = {self.names[passage.number], *self.known_as[passage.number]}
        return ((name, told) for name, told in passage.terms.items() if name not in own)

    def _told_by_term(self, case: Case, cases: Mapping[tuple[str, str, str], Case]) -> bool:
        """Say whether what a loss is accused of is told of one of its terms already."""
        terms = {
            name
            for passage in self.passages
            if self.names[passage.number] == case.finding.loss
            for name, _ in self._terms(passage)
        }
        return any(
            other.finding.loss in terms
            and (other.saw, other.finding.model) == (case.saw, case.finding.model)
            for other in cases.values()
        )

    def _add_terms(self, ledger: Ledger, rules: dict[str, Rule]) -> None:
        """Show each term behind its loss, by the rule of the loss unless it has its own."""
        losses = set(self.names.values())
        for passage in self.passages:
            whole = rules.get(self.names[passage.number])
            for name, told in self._terms(passage):
                if name in losses or not told.additive:
                    continue
                rule = rules.get(name, whole)
                event = self._backward(passage, name, told.part, rule)
                seen = ledger.seen.setdefault(name, {})
                seen |= {
                    one.deposit.account: one.kind
                    for one in judge(rule, ledger.models, event).deposits
                }
                ledger.last[name] = event
        order = [n for p in self.passages for n in (self.names[p.number], *p.terms)]
        ledger.seen = {n: ledger.seen[n] for n in dict.fromkeys(order) if n in ledger.seen}

    def _reached_musts(
        self, rules: dict[str, Rule], whole: dict[int, Backward], terms: dict[int, list[Backward]]
    ) -> None:
        """Judge hunger over the run: what was reached once is not starved."""
        reached: dict[str, set[str]] = {}
        for event in (*whole.values(), *(e for every in terms.values() for e in every)):
            found = reached.setdefault(event.loss, set())
            found.update(o for deposit in event.deposits for o in deposit.account.owners)
        for loss, rule in list(rules.items()):
            fed = {m for m in rule.demanded if any(matches(o, m) for o in reached.get(loss, ()))}
            if fed:
                only = None if rule.only is None else rule.only - fed
                rules[loss] = Rule(only, rule.must - fed, rule.may | fed, rule.never)

    def _replay(
        self,
        policy: Policy,
        turns: list[list[Event]],
        whole: dict[int, Backward],
        terms: dict[int, list[Backward]],
        timeline: Timeline,
    ) -> Ledger:
        names = [*self.declared, *self.models]
        ledger = Ledger(policy, names)
        ledger.timeline = timeline
        by_event = {id(event): number for number, event in whole.items()}
        numbers = {turn: n for n, turn in enumerate(self.seen.tape.turns())}
        for turn, count in self.seen.tape.story():
            if turn is None:
                ledger.post(Clear(frozenset(account for _, account in self.atoms)))
                continue
            for _ in range(min(count, _REPEATS)):
                for event in turns[numbers[turn]]:
                    ledger.post(event)
                    for term in terms.get(by_event.get(id(event), -1), ()):
                        ledger.post(term, joint=True)
        return ledger

    def _told(self, case: Case) -> Finding:
        """Give a finding its path through the source."""
        finding = case.finding
        if (
            finding.loss is None
            or finding.model is None
            or finding.code not in ("GG101", "GG103", "GG104")
        ):
            return finding
        if case.saw not in (Saw.LEAK, Saw.LIVE_SHADOW, Saw.LEAK_APPLIED):
            # What is passed through has to be cleared or filtered, not cut where it enters.
            return finding
        mask = self.declared.get(finding.model, self.models.get(finding.model, 0))
        for passage in self.passages:
            if finding.loss != self.names[passage.number] and finding.loss not in passage.terms:
                continue
            evidence = self._evidence(passage, finding.loss, finding.model, mask)
            if evidence is not None and evidence.place is not None:
                own = [
                    step for step in finding.trace if step.place != place_of_program(passage.where)
                ]
                return replace(
                    finding,
                    place=evidence.place,
                    trace=(*evidence.trace, *own),
                    help=evidence.help or finding.help,
                )
        return finding

    def _evidence(self, passage: Passage, loss: str, model: str, mask: int) -> Evidence | None:
        lead = self._lead(passage, mask)
        if lead is None:
            return None
        made = lead.made
        steps = [TraceStep(made.place, f"`{model}`'s output, carries gradient")]
        place: Place | None = None
        if lead.taken is not None:
            name = next((n for n, m in self.models.items() if m & lead.taken[0]), "")
            code_, offset = _entry(made, lead.taken[1])
            steps.append(
                TraceStep(_place(code_, offset), f"enters `{name}`, and with it `{loss}`, here")
            )
            if self._is_training(code_, passage):
                place = steps[-1].place
        else:
            trail = follow_call(made, passage.where, (loss, *self.known_as[passage.number]))
            entry = trail.entry.place if trail is not None else made.place
            if entry != made.place:
                steps.append(TraceStep(entry, f"enters `{loss}` here"))
            around = next((c for c, _ in made.stack if _spans(c, entry)), None)
            if around is not None and self._is_training(around, passage):
                place = entry
        if self.is_twin(mask):
            # It should not have been called with gradient at all.
            place = _mention(made, model)
        reached = (mask & passage.arrives).bit_count()
        steps.append(
            TraceStep(
                place_of_program(passage.where),
                f"{reached} of {mask.bit_count()} `{model}` parameters receive gradient",
            )
        )
        return Evidence(tuple(steps), None, place or place_of_program(passage.where))

    def _lead(self, passage: Passage, mask: int) -> Lead | None:
        """Choose the part of a model whose output is the last to be the model's own."""
        leads = [(own, lead[0]) for own, lead in passage.leads.items() if own & mask == own]
        leaving = [one for one in leads if one[1].taken is None or not one[1].taken[0] & mask]
        best = max(leaving or leads, key=lambda one: one[0].bit_count(), default=None)
        return best[1] if best is not None else None

    def _is_training(self, code_: CodeType, passage: Passage) -> bool:
        """Say whether code belongs to the training rather than to the inside of a model."""
        if any(code_ is one for one, _ in passage.where.stack):
            return True
        holder = code_.co_qualname.rpartition(".")[0]
        return holder not in {branch.kind for branch in self.census.branches()}

    def name_of(self, mask: int) -> str:
        """Return the names of the models that hold parameters."""
        found = [name for name, own in self.models.items() if own & mask]
        return ", ".join(found[:3]) or "model"


def _entry(made: Site, taken: Site) -> tuple[CodeType, int]:
    """Return where an output is taken in, in the function that made it if it is there."""
    codes = [code_ for code_, _ in made.stack]
    return next((one for one in taken.stack if one[0] in codes), taken.stack[0])


def _spans(code_: CodeType, place: Place) -> bool:
    """Say whether a place lies in a function."""
    rows = [row for _, _, row in code_.co_lines() if row is not None]
    first, last = min(rows, default=0), max(rows, default=0)
    return code_.co_filename == place.filename and first <= place.location.row <= last


def _mention(made: Site, model: str) -> Place | None:
    """Return the innermost call on the way to a model that names it, or what holds it."""
    words = {model, model.rpartition(".")[0]} - {"", "self"}
    for level in range(len(made.stack)):
        call = made.call(level)
        if call is None:
            continue
        for node in ast.walk(call.node):
            if isinstance(node, ast.expr) and ast.unparse(node) in words:
                return call.place
    return None


def _told_apart(branch: Branch) -> Iterator[str]:
    """Yield the names that say which model it is: inside, every model is `self`."""
    return (name for name in branch.names if name != "self")


def _nicer(name: str, than: str) -> bool:
    return name.count(".") + name.count("[") <= than.count(".") + than.count("[")


def _loss_name(names: Iterable[str]) -> str:
    """Choose the last plain name: what callers call the argument of a helper."""
    every = list(names)
    plain = [n for n in every if n.replace(".", "").replace("_", "").isalnum() or n.endswith("]")]
    return (plain or every or ["loss"])[-1] if len(plain) < 2 else _chosen(plain)


def _chosen(plain: list[str]) -> str:
    with_loss = [n for n in plain if "loss" in n.lower() or "cost" in n.lower()]
    return (with_loss or plain)[-1] if with_loss else plain[0]
