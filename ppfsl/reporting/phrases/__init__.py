"""The fixed words of docs/results.md and of its Chinese twin: a value a language."""

from ppfsl.reporting.phrases.chinese import CHINESE
from ppfsl.reporting.phrases.english import ENGLISH
from ppfsl.reporting.phrases.phrases import Phrases

__all__ = ["CHINESE", "ENGLISH", "Phrases"]
