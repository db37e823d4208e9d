"""Policy inference: the order of events and reach, against hand-made and brute-force answers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, strategies as st

from gradguard.core.events import Account, Backward, Deposit, Spend
from gradguard.core.inference import infer, unique_matching

G, D, E = Account(("generator",)), Account(("critic",)), Account(("encoder",))
HOLDS = {"g_opt": G, "d_opt": D, "e_opt": E}


def backward(loss: str, **reached: list[Account]) -> Backward:
    """A backward pass that reaches the accounts named by letter, with what lies behind each."""
    by_letter = {"G": G, "D": D, "E": E}
    deposits = (Deposit(by_letter[name], frozenset(behind)) for name, behind in reached.items())
    return Backward(loss, tuple(deposits))


def step(*names: str) -> list[Spend]:
    """Steps of the optimizers called ``names``, each holding its one account."""
    return [Spend(name, frozenset([HOLDS[name]])) for name in names]


def meant(*events: Any) -> dict[str, list[str]]:
    """What is inferred of ``events``: for each loss the models it may train."""
    flat = [event for part in events for event in (part if isinstance(part, list) else [part])]
    policy = infer(flat)
    return {loss: sorted(policy.rules[loss].may) for loss in policy}


def test_a_loss_is_meant_for_the_optimizer_that_steps_before_the_next_backward() -> None:
    """The plain GAN loop: a live fake in the critic's loss does not make the generator its own."""
    found = meant(
        backward("d_loss", D=[G], G=[]),
        step("d_opt"),
        backward("g_loss", D=[G], G=[]),
        step("g_opt"),
    )
    assert found == {"d_loss": ["critic"], "g_loss": ["generator"]}


def test_two_backwards_before_two_steps_are_told_apart_by_reach() -> None:
    """The loss that reaches one optimizer alone claims it, and leaves the other its own."""
    found = meant(backward("d_loss", D=[]), backward("g_loss", D=[G], G=[]), step("d_opt", "g_opt"))
    assert found == {"d_loss": ["critic"], "g_loss": ["generator"]}


def test_what_lies_behind_a_match_is_meant_as_well() -> None:
    """The reconstruction trains the decoder and the encoder behind it."""
    found = meant(
        backward("reconstruction", D=[E], E=[]), backward("prior", E=[]), step("d_opt", "e_opt")
    )
    assert found == {"reconstruction": ["critic", "encoder"], "prior": ["encoder"]}


def test_a_policy_term_has_no_claim_on_the_critic_beside_the_actor() -> None:
    """A term that reaches both is matched to what the other term leaves over."""
    found = meant(
        backward("policy_loss", G=[], D=[]), backward("value_loss", D=[]), step("g_opt", "d_opt")
    )
    assert found == {"policy_loss": ["generator"], "value_loss": ["critic"]}


def test_one_joint_loss_before_two_steps_is_meant_for_both() -> None:
    """Nothing tells which part was meant for which optimizer, so nothing is forbidden."""
    assert meant(backward("loss", G=[], D=[]), step("g_opt", "d_opt")) == {
        "loss": ["critic", "generator"]
    }


def test_losses_that_reach_the_same_models_stay_open() -> None:
    """Two matchings are no matching: each loss is meant for all that step."""
    found = meant(
        backward("one", G=[D], D=[G]), backward("other", G=[D], D=[G]), step("g_opt", "d_opt")
    )
    assert found == {"one": ["critic", "generator"], "other": ["critic", "generator"]}


def test_accumulated_backwards_of_one_loss_are_one_loss() -> None:
    """Micro-batches before a step do not make several losses."""
    micro = [backward("loss", G=[]) for _ in range(4)]
    assert meant(micro, step("g_opt")) == {"loss": ["generator"]}


def test_a_loss_that_no_step_follows_is_left_out() -> None:
    """Without a step there is no intention to read."""
    assert meant(backward("probe", G=[])) == {}


def test_nothing_inferred_is_required() -> None:
    """Inference closes the set of models a loss may train; it demands none of them."""
    policy = infer([backward("d_loss", D=[]), *step("d_opt")])
    assert policy.rules["d_loss"].demanded == frozenset()


names = st.integers(1, 4)


@given(size=names, edges=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_a_matching_is_returned_exactly_if_brute_force_finds_one_and_no_other(
    size: int, edges: set[tuple[int, int]]
) -> None:
    """Against all permutations: unique means one, and it is that one."""
    wanted = {f"l{i}": [f"o{j}" for j in range(size) if (i, j) in edges] for i in range(size)}
    every = [
        {f"l{i}": f"o{j}" for i, j in enumerate(order)}
        for order in itertools.permutations(range(size))
        if all((i, j) in edges for i, j in enumerate(order))
    ]
    expected = every[0] if len(every) == 1 else None
    assert unique_matching(wanted, [f"o{j}" for j in range(size)]) == expected


@pytest.mark.parametrize("extra", [1, 2])
def test_more_optimizers_than_losses_have_no_matching(extra: int) -> None:
    """A perfect matching uses every optimizer."""
    assert unique_matching({"loss": ["o0"]}, [f"o{j}" for j in range(1 + extra)]) is None


@given(st.permutations(["d", "g"]))
def test_the_order_of_the_windows_does_not_matter(order: list[str]) -> None:
    """What is inferred for a loss depends on its own windows."""
    windows = {
        "d": [backward("d_loss", D=[]), *step("d_opt")],
        "g": [backward("g_loss", D=[G], G=[]), *step("g_opt")],
    }
    found = meant(*(windows[name] for name in order))
    assert found == {"d_loss": ["critic"], "g_loss": ["generator"]}
