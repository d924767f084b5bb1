"""ascribe.torch - gradients of single examples out of a PyTorch model, projected, into batches.

    from ascribe.torch import GradientCollector, second_moments
"""
from .collector import GradientCollector, Rows
from .moments import second_moments

__all__ = ["GradientCollector", "Rows", "second_moments"]
