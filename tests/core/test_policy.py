"""Policies: every way to write one, what it means, and what is said where it makes no sense."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

import gradguard
from gradguard.core.policy import (
    Policy,
    PolicyError,
    Rule,
    Stance,
    matches,
    may,
    must,
    never,
)

CRITIC = Rule(only=frozenset({"critic"}))
BOTH = Rule(only=frozenset({"actor", "critic"}))
MIXED = Rule(must=frozenset({"actor"}), never=frozenset({"target_*"}))

FORMS = [
    ("critic", '"critic"', CRITIC),
    (["critic"], '["critic"]', CRITIC),
    (("critic",), '["critic"]', CRITIC),
    ({"only": "critic"}, '{ only = "critic" }', CRITIC),
    ({"only": ["critic"]}, '{ only = ["critic"] }', CRITIC),
    (CRITIC, '"critic"', CRITIC),
    (["actor", "critic"], '["critic", "actor"]', BOTH),
    ({"critic", "actor"}, '{ only = ["actor", "critic"] }', BOTH),
    (must("codebook"), '{ must = "codebook" }', Rule(must=frozenset({"codebook"}))),
    (may("a", "b"), '{ may = ["a", "b"] }', Rule(may=frozenset({"a", "b"}))),
    (never("critic"), '{ never = ["critic"] }', Rule(never=frozenset({"critic"}))),
    ([], "[]", Rule(only=frozenset())),
    (must("actor") | never("target_*"), '{ must = "actor", never = "target_*" }', MIXED),
    ({"must": "actor", "never": ["target_*"]}, '{ never = "target_*", must = "actor" }', MIXED),
]

MODELS = ["actor", "critic", "target_actor", "target_critic", "agents[0].policy", "nets['q']"]


def read(text: str, path: Path) -> Policy:
    """Read a policy from the text of a policy file."""
    path.write_text(text, encoding="utf-8", newline="")
    return Policy.from_toml(path)


def refused(declared: Any) -> str:
    """Return what is said of a policy that cannot be."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse(declared)
    return str(caught.value)


@pytest.mark.parametrize(("python", "toml", "rule"), FORMS)
def test_every_form_means_the_same_in_python_and_in_toml(
    python: Any, toml: str, rule: Rule, tmp_path: Path
) -> None:
    """A name, a list, a table and a built rule are one rule, wherever they are written."""
    expected = Policy({"loss": rule})
    assert Policy.parse({"loss": python}) == expected
    assert read(f"[policy]\nloss = {toml}\n", tmp_path / "policy.toml") == expected


def test_a_parsed_policy_is_taken_as_it_is_and_keeps_to_itself() -> None:
    """Parsing again changes nothing, and the mapping it came from may change afterwards."""
    declared = {"critic_loss": "critic"}
    policy = Policy.parse(declared)
    assert Policy.parse(policy) is policy
    declared["other"] = "critic"
    assert list(policy) == ["critic_loss"]
    assert len(policy) == 1


NAMES = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from("[]'\"\\.*?\n\x7f"), min_size=1
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Draw a rule that says something and does not contradict itself."""
    pool = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    forbidden = frozenset(draw(st.sets(st.sampled_from(pool))))
    wanted = st.sets(st.sampled_from(pool)).map(lambda names: frozenset(names) - forbidden)
    only = draw(st.none() | wanted)
    rule = Rule(only=only, must=draw(wanted), may=draw(wanted), never=forbidden)
    return rule if rule != Rule() else Rule(only=frozenset())


def quoted(text: str) -> str:
    """Write a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(table: Mapping[str, Mapping[str, list[str]]]) -> str:
    """Write the ``[policy]`` table of a policy file."""
    lines = ["[policy]"]
    for loss, rule in table.items():
        keys = (f"{key} = [{', '.join(map(quoted, names))}]" for key, names in rule.items())
        lines.append(f"{quoted(loss)} = {{ {', '.join(keys)} }}")
    return "\n".join(lines)


@given(policy=st.dictionaries(NAMES, rules(), max_size=4).map(Policy))
def test_a_policy_survives_being_written_to_a_file(
    policy: Policy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Policy, table, TOML text and back is the same policy, whatever the names are."""
    path = tmp_path_factory.getbasetemp() / "round_trip.toml"
    assert Policy.parse(policy.to_dict()) == policy
    assert read(written(policy.to_dict()), path) == policy


SMALL = st.text("ab", min_size=1, max_size=2)
PATTERNS = st.builds(
    lambda name, star: f"{name[:1]}*" if star else name, SMALL, st.booleans()
) | st.just("*")


def covered(owner: str, patterns: frozenset[str]) -> bool:
    """Say whether a name is covered, by regular expressions instead of fnmatch."""
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), owner) for pattern in patterns)


@given(
    only=st.none() | st.frozensets(PATTERNS, max_size=2),
    must_names=st.frozensets(PATTERNS, max_size=2),
    may_names=st.frozensets(PATTERNS, max_size=2),
    never_names=st.frozensets(PATTERNS, max_size=2),
    owners=st.lists(SMALL, min_size=1, max_size=3, unique=True),
)
def test_never_wins_over_an_allowed_owner_and_that_over_the_rest(
    only: frozenset[str] | None,
    must_names: frozenset[str],
    may_names: frozenset[str],
    never_names: frozenset[str],
    owners: list[str],
) -> None:
    """For parameters with several owners the stance is that of a plain reading of the rule."""
    demanded = (only or frozenset()) | must_names
    allowed = demanded | may_names
    forbidden = never_names - allowed
    rule = Rule(only=only, must=must_names, may=may_names, never=forbidden)
    if any(covered(owner, forbidden) for owner in owners):
        expected, because = Stance.NEVER, forbidden
    elif any(covered(owner, demanded) for owner in owners):
        expected, because = Stance.MUST, demanded
    elif any(covered(owner, may_names) for owner in owners):
        expected, because = Stance.MAY, may_names
    else:
        expected, because = (Stance.NEVER if only is not None else Stance.MAY), frozenset("*")
    stance, owner = rule.stance(owners)
    assert stance is expected
    assert owner == next(o for o in owners if covered(o, because))


@given(rule=rules(), models=st.lists(SMALL | st.sampled_from(MODELS), unique=True))
def test_a_loss_must_reach_what_is_demanded_and_not_forbidden(
    rule: Rule, models: list[str]
) -> None:
    """What must be reached is what the rule demands of a model standing alone, in order."""
    expected = [model for model in models if rule.stance((model,))[0] is Stance.MUST]
    assert list(rule.required(models)) == expected


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("target_*", ["target_actor", "target_critic"]),
        ("*critic", ["critic", "target_critic"]),
        ("?ctor", ["actor"]),
        ("agents[0].policy", ["agents[0].policy"]),
        ("agents[0].*", ["agents[0].policy"]),
        ("agents[*", ["agents[0].policy"]),
        ("agents[*].policy", ["agents[0].policy"]),
        ("nets['q']", ["nets['q']"]),
        ("nets[*]", ["nets['q']"]),
        ("[ac]*", ["actor", "critic", "agents[0].policy"]),
        ("Critic", []),
        ("crit", []),
    ],
)
def test_a_pattern_covers_names_as_fnmatch_does_and_takes_subscripts_as_written(
    pattern: str, names: list[str]
) -> None:
    """Stars, question marks and classes work, case counts, and ``agents[0]`` is a name."""
    assert [model for model in MODELS if matches(model, pattern)] == names


@given(name=NAMES, rest=NAMES)
def test_a_name_is_covered_by_itself_and_by_its_beginning_with_a_star(name: str, rest: str) -> None:
    """Whatever characters a name has, it can be named, and a family of names by one star."""
    assert matches(name, name)
    if not set("*?") & set(name):
        assert matches(name + rest, name + "*")


def test_losses_are_looked_up_by_name_first_and_then_by_pattern() -> None:
    """The exact name wins wherever it stands; of two patterns the first in the policy does."""
    policy = Policy.parse(
        {
            "losses[*]": "first",
            "loss_*": "second",
            "*_critic": "third",
            "loss_critic": "exact",
            "self.losses['actor']": "actor",
        }
    )
    expected = {
        "loss_critic": "exact",
        "loss_q_critic": "second",
        "q_critic": "third",
        "losses['a']": "first",
        "self.losses['actor']": "actor",
    }
    for loss, model in expected.items():
        assert policy.rule(loss) == Rule(only=frozenset({model})), loss
    assert policy.rule("self.losses['critic']") is None
    assert policy.rule("unheard_of") is None


def test_rules_combine_to_what_either_says() -> None:
    """``|`` unites; a closed set stays closed and takes in what is allowed beside it."""
    closed = CRITIC | Rule(only=frozenset({"actor"})) | may("encoder")
    assert closed == Rule(only=frozenset({"actor", "critic"}), may=frozenset({"encoder"}))
    assert closed.stance(["encoder"]) == (Stance.MAY, "encoder")
    assert closed.stance(["decoder"]) == (Stance.NEVER, "decoder")
    assert (must("a") | never("b")) == (never("b") | must("a"))
    assert (must("a") | must("a")) == must("a")
    with pytest.raises(TypeError, match="unsupported operand"):
        must("a") | "b"  # type: ignore[operator]


def test_builders_are_public_and_need_no_torch() -> None:
    """What a policy is written with is in the package itself."""
    assert gradguard.must("a") | gradguard.may("b") | gradguard.never("c") == Rule(
        must=frozenset("a"), may=frozenset("b"), never=frozenset("c")
    )
    assert issubclass(gradguard.PolicyError, ValueError)


KEYS = "a rule has the keys only, must, may, never"
BY_TEXT = "models are named by text"
EXAMPLE = '{"critic_loss": "critic"}'
WRONG = [
    ({"onyl": ["critic"]}, f"unknown key 'onyl'; did you mean `only`?; {KEYS}"),
    ({"trains": ["critic"]}, f"unknown key 'trains'; {KEYS}"),
    (
        {"must": "critic", "never": ["critic"]},
        "`critic` is both allowed and under `never` in one rule: remove one",
    ),
    (3, f"expected model names, got int; {BY_TEXT}"),
    (None, f"expected model names, got NoneType; {BY_TEXT}"),
    (["critic", 4], f"expected a model name, got 4; {BY_TEXT}"),
    ({"never": {"critic": True}}, f"expected model names, got dict; {BY_TEXT}"),
    ("", f"expected a model name, got ''; {BY_TEXT}"),
]


@pytest.mark.parametrize(("entry", "message"), WRONG)
def test_an_entry_that_cannot_be_read_says_where_and_why(entry: Any, message: str) -> None:
    """The message names the loss, what is wrong and what is expected: wording is a contract."""
    assert refused({"critic_loss": entry}) == f"the policy for `critic_loss`: {message}"


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({7: "critic"}, "a policy names losses by text, not by 7"),
        ({"": "critic"}, "a policy names losses by text, not by ''"),
        (["critic"], f"a policy is a mapping of loss names to rules, such as {EXAMPLE}, not list"),
    ],
)
def test_what_is_no_policy_at_all_is_refused(declared: Any, message: str) -> None:
    """Losses have names, and a policy is a mapping."""
    assert refused(declared) == message


@pytest.mark.parametrize("nothing", [Rule(), must(), may(), {}, {"must": []}, {"never": []}])
def test_a_rule_that_says_nothing_is_refused_in_every_form(nothing: Any) -> None:
    """An entry that neither allows nor forbids anything is a slip, however it is written."""
    assert refused({"loss": nothing}) == (
        "the policy for `loss`: an empty table says nothing; use only, must, may or never"
    )


def test_a_contradiction_in_a_combination_is_refused_where_it_is_written() -> None:
    """Python says so at the ``|``, before any policy is made."""
    with pytest.raises(PolicyError, match="`critic` is both allowed and under `never`"):
        must("critic") | never("critic")


def invalid(declared: Any, models: list[str]) -> str:
    """Return what is said of a policy that does not fit the models."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse(declared).validate(models)
    return str(caught.value)


def test_an_unknown_model_is_answered_with_what_exists_and_what_is_near() -> None:
    """A misspelt name gets a suggestion; the models that exist are listed in their order."""
    assert invalid({"critic_loss": "critc"}, ["generator", "critic"]) == (
        "the policy for `critic_loss` names `critc`, which matches no model; "
        "did you mean `critic`?; the models are: `generator`, `critic`"
    )
    assert invalid({"a": "critic", "b": never("target_*")}, ["critic"]) == (
        "the policy for `b` names `target_*`, which matches no model; the models are: `critic`"
    )
    assert invalid({"a": "critic"}, []).endswith("the models are: none")


def test_a_demand_that_a_pattern_forbids_is_a_contradiction() -> None:
    """``never`` by a pattern over a model that is demanded by name is refused."""
    assert invalid({"loss": must("critic") | never("crit*")}, ["critic", "critter"]) == (
        "the policy for `loss` demands `critic` and forbids it by a pattern under `never`: "
        "name in one of them only"
    )


@pytest.mark.parametrize(
    "rule",
    [must("target_*") | never("target_actor"), may("actor") | never("*or"), "*", ["nets['q']"]],
)
def test_a_policy_that_fits_the_models_is_returned(rule: Any) -> None:
    """An exception carved out of a pattern is no contradiction."""
    policy = Policy.parse({"loss": rule})
    assert policy.validate(MODELS) is policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'has no [policy] table; write: [policy] critic_loss = "critic"'),
        ('policy = "critic"', 'has no [policy] table; write: [policy] critic_loss = "critic"'),
        ("[policy", "cannot read a policy from"),
        ("[policy]\nloss = 1979-05-27", "expected model names, got date; models are named by text"),
        ('[policy]\nself.losses.a = "a"', "the policy for `self`: unknown key 'losses'"),
        ('[policy]\nloss = { must = "a", never = "a" }', "`a` is both allowed and under `never`"),
    ],
)
def test_a_policy_file_that_cannot_be_read_says_why(
    text: str, message: str, tmp_path: Path
) -> None:
    """Syntax, a missing table and wrong entries each get a sentence of their own."""
    with pytest.raises(PolicyError, match=re.escape(message)):
        read(text, tmp_path / "policy.toml")


def test_a_policy_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    """The path is in the message, and the error is a policy error, not one of the file system."""
    missing, binary = tmp_path / "missing.toml", tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path in (missing, binary):
        with pytest.raises(PolicyError, match=re.escape(f"cannot read a policy from {path}: ")):
            Policy.from_toml(path)
