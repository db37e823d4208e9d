"""A program on disk, findings about it, and names that mean harm."""

from __future__ import annotations

import linecache
from pathlib import Path

from gradguard.core.events import Account, Backward, Clear, Deposit, Event, Spend
from gradguard.core.findings import Confidence, Finding, Location, Place, Severity, TraceStep
from gradguard.core.flow import FlowMatrix, Reach
from gradguard.core.judgement import Kind

SOURCE = """\
import torch


def train(critic, generator, critic_opt, generator_opt, noise):
    for z in noise:
        fake = generator(z)
        score_fake = critic(fake)
        critic_loss = score_fake.mean()
        critic_loss.backward()
        critic_opt.step()
        generator_opt.step()
"""

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></script><svg onload=alert(1)>",
    "{{ 777 * 777 }}",
    "a & b &lt; &#60;",
    "\x1b[2J\x1b[31m",
    "\u202egnihton",
    "javascript:alert(1)",
    "]]>-->",
)


def program(folder: Path, name: str = "train.py", text: str = SOURCE) -> str:
    """Write a program and return its full path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    linecache.checkcache(str(path))
    return str(path)


def place(filename: str, row: int, column: int = 1, end: int | None = None) -> Place:
    """Make a place on one line."""
    return Place(filename, Location(row, column), Location(row, end) if end else None)


def leak(filename: str) -> Finding:
    """Make the finding that the critic's loss reaches the generator."""
    return Finding(
        "GG101",
        "leaking-loss",
        Severity.WARNING,
        "`critic_loss` reaches `generator`, which it does not train",
        place(filename, 7, 22, 34),
        loss="critic_loss",
        model="generator",
        trace=(
            TraceStep(place(filename, 6, 16, 28), "`generator`'s output, carries gradient"),
            TraceStep(place(filename, 7, 22, 34), "enters `critic`, and with it `critic_loss`"),
            TraceStep(place(filename, 9, 9, 31), "4 of 4 `generator` parameters receive gradient"),
        ),
        help="`critic(fake.detach())`",
        count=20,
    )


def applied(filename: str) -> Finding:
    """Make the finding that a step applies what leaked."""
    return Finding(
        "GG103",
        "applied-leak",
        Severity.ERROR,
        "`generator_opt` applies gradient of `critic_loss` to `generator`",
        place(filename, 11, 9, 29),
        loss="critic_loss",
        model="generator",
        confidence=Confidence.MEDIUM,
    )


def unknown(filename: str) -> Finding:
    """Make the finding that something could not be told."""
    return Finding(
        "GG903",
        "unknown-reach",
        Severity.INFO,
        "whether `critic_loss` reaches `teacher` cannot be told before backward",
        place(filename, 9, 9, 31),
        loss="critic_loss",
        model="teacher",
        trace=(TraceStep(place(filename, 9, 9, 31), "a custom Function lies on the way"),),
    )


def matrix() -> FlowMatrix:
    """Make a matrix in which every sign occurs."""
    names = ("critic", "generator", "teacher", "codebook")
    losses = ("critic_loss", "generator_loss", "other_loss")
    return FlowMatrix(
        losses,
        names,
        {
            ("critic_loss", "critic"): Reach.REACHED,
            ("critic_loss", "generator"): Reach.REACHED,
            ("critic_loss", "teacher"): Reach.UNKNOWN,
            ("generator_loss", "critic"): Reach.REACHED,
            ("generator_loss", "generator"): Reach.REACHED,
            ("other_loss", "critic"): Reach.REACHED,
            ("other_loss", "generator"): Reach.ZERO,
        },
        {
            ("critic_loss", "critic"): Kind.MEANT,
            ("critic_loss", "generator"): Kind.LEAK,
            ("generator_loss", "critic"): Kind.SPILL,
            ("generator_loss", "generator"): Kind.MEANT,
        },
        frozenset({("generator_loss", "codebook")}),
    )


def events(filename: str) -> list[Event]:
    """Return one turn of a loop whose critic loss leaks and whose generator loss spills."""
    critic, generator = Account(("critic",)), Account(("generator",))
    return [
        Clear(frozenset({critic}), place(filename, 5)),
        Backward("critic_loss", (Deposit(critic), Deposit(generator)), place(filename, 9)),
        Spend("critic_opt", frozenset({critic}), place(filename, 10)),
        Clear(frozenset({generator})),
        Backward(
            "generator_loss",
            (Deposit(critic, frozenset({generator})), Deposit(generator)),
            place(filename, 9),
        ),
        Spend("generator_opt", frozenset({generator}), place(filename, 11)),
    ]
