"""ppfsl: few-shot image classification for PaddlePaddle.

Importing the package imports neither Paddle nor any model, so that command lines answer at once.
"""

from ppfsl.version import __version__

__all__ = ["__version__"]
