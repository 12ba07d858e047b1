"""A server of semscale that misbehaves as it is told and is started again when its model process ends; run as a script.

The first argument is a port, the second a JSON object:

- `poison`: pixel value; the model process ends at a picture whose first pixel is grey of this value
- `log`: file that gets a line for every poisoned request with the number of its pictures
- `count`: file that gets a line for every request with the number of its pictures
- `delay`: seconds that a picture takes
- `nan`: pixel value; the row of such a picture is not finite
- `times`: how often that happens, each time with a line in the file `log`
- `answer`: `dimension`, `nan`, `zeros`, `fewer`, `other` (other embeddings) or `renamed` (another model)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(NO_VERSION_CHECK="1", JINA_OPTOUT_TELEMETRY="1")

import numpy as np
import torch
from jina import requests

from semscale.models.loading import load_model
from semscale.serving import executor
from semscale.serving.executor import SemscaleEncoder
from semscale.serving.grpc_server import RequestHandler, start_server
from semscale.serving.server_config import ServeConfig
from semscale.serving.server_process import watch_parent

PORT = int(sys.argv[1])
HOW: dict[str, Any] = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}


class OddEncoder(SemscaleEncoder):
    """The project's executor with a fault."""

    def _encode_images(self, pixels: np.ndarray) -> np.ndarray:
        if "poison" in HOW and (pixels[:, 0, 0] == HOW["poison"]).all(axis=1).any():
            with Path(HOW["log"]).open("a") as log:
                log.write(f"{len(pixels)}\n")
            os._exit(3)
        if "count" in HOW:
            with Path(HOW["count"]).open("a") as count:
                count.write(f"{len(pixels)}\n")
        time.sleep(HOW.get("delay", 0) * len(pixels))
        rows = self._odd(super()._encode_images(pixels))
        odd = (pixels[:, 0, 0] == HOW.get("nan", -1)).all(axis=1)
        if odd.any():
            with Path(HOW["log"]).open("a+") as log:
                log.write("\n")
                log.seek(0)
                if len(log.readlines()) <= HOW["times"]:
                    rows[odd] = np.nan
        return rows

    def _encode_texts(self, tokens: Any) -> np.ndarray:
        return self._odd(super()._encode_texts(tokens))

    def _odd(self, rows: np.ndarray) -> np.ndarray:
        how = HOW.get("answer")
        if how == "dimension":
            return rows[:, :-1].copy()
        if how == "nan" or how == "zeros":
            rows[:] = np.nan if how == "nan" else 0.0
        if how == "fewer":
            return rows[:-1]
        if how == "other":
            return rows[:, ::-1].copy()
        return rows

    @requests(on="/info")
    def info(self, docs: Any, **kwargs: Any) -> Any:
        answer = super().info(docs, **kwargs)
        if HOW.get("answer") == "renamed":
            told = json.loads(answer[0].tags[executor.INFO_TAG])
            answer[0].tags[executor.INFO_TAG] = json.dumps(told | {"name": "some-other-clip"})
        return answer


async def serve() -> None:
    config = ServeConfig("semscale-mini", port=PORT, minibatch_size=64, num_threads=1)
    server = await start_server(RequestHandler(OddEncoder(config)), config)
    await server.wait_for_termination()


if __name__ == "__main__":
    torch.set_num_threads(1)
    loaded = load_model("semscale-mini")
    executor.load_model = lambda *_: loaded
    while True:  # the model is loaded once: starting again takes a moment
        child = os.fork()
        if not child:
            watch_parent(os.getppid(), on_exit=lambda: os._exit(1))
            asyncio.run(serve())
        os.waitpid(child, 0)
