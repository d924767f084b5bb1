"""ascribe.torch - gradients of single examples out of a PyTorch model, projected, into batches.

    from ascribe.torch import CausalEncoder, GradientCollector, second_moments
"""
from .causal import CausalEncoder
from .collector import GradientCollector, Rows
from .moments import second_moments

__all__ = ["CausalEncoder", "GradientCollector", "Rows", "second_moments"]
