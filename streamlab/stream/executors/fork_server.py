"""Imported by the fork server alone, once: the libraries of every provider's process.

A provider's process is a fork of a process that has imported them and has seen no provider's
data. Importing starts no thread that a fork would miss.
"""

import sklearn.metrics as sklearn_metrics
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from streamlab.stream.executors import provider_process

__all__ = [
    "AutoModel",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "provider_process",
    "sklearn_metrics",
]
