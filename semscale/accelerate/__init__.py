"""Predictions by bfloat16 screening with torch, on the CPU or a GPU, equal to those of the float32 kernel."""

from semscale.accelerate.bound import screening_bound
from semscale.accelerate.predict import Accelerated, bfloat16_is_fast, predict_screened

__all__ = ["Accelerated", "bfloat16_is_fast", "predict_screened", "screening_bound"]
