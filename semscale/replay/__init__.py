"""Re-scoring predictions that somebody has published, or that a run of ours has left."""

from semscale.replay.run import Replay, replay

__all__ = ["Replay", "replay"]
