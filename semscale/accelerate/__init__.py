"""Scores with torch, on the CPU or a GPU, equal to those of the float32 kernel where equality counts."""

from semscale.accelerate.bound import screening_bound
from semscale.accelerate.find import find_device
from semscale.accelerate.ladder import DeviceScores, score_on_device
from semscale.accelerate.predict import Accelerated, bfloat16_is_fast, predict_screened

__all__ = [
    "Accelerated",
    "DeviceScores",
    "bfloat16_is_fast",
    "find_device",
    "predict_screened",
    "score_on_device",
    "screening_bound",
]
