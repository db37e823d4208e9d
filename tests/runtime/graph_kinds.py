"""All kinds of graph on which the definitions of leak and spill are tested, with their truth."""

import graph_kinds_adversarial
import graph_kinds_calls
import graph_kinds_control
import graph_kinds_latent
import graph_kinds_sharing
from graph_kinds_base import KINDS, Kind, Loss, Rule, Truth

FAMILIES = (
    graph_kinds_adversarial,
    graph_kinds_latent,
    graph_kinds_control,
    graph_kinds_sharing,
    graph_kinds_calls,
)

__all__ = ["FAMILIES", "KINDS", "Kind", "Loss", "Rule", "Truth"]
