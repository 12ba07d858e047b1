"""Stock clip-server, with the original executor's encode and rank code and without /info; run as a script.

The first argument is a port; with a second one, `flow`, it is jina's Flow with a gateway, and else one process.

The original executor cannot load a model with open_clip 3, so it is given semscale-mini's towers; everything else,
its preprocessing with CLIP's mean and deviation included, is clip-server's.
"""

from __future__ import annotations

import asyncio
import os
import sys
from multiprocessing.pool import ThreadPool
from typing import Any

os.environ.update(NO_VERSION_CHECK="1", JINA_OPTOUT_TELEMETRY="1")

import torch
from clip_server.executors.clip_torch import CLIPEncoder
from clip_server.model import clip
from jina import Flow
from opentelemetry.trace import NoOpTracer

from semscale.models.bundled_model import load_mini
from semscale.serving.grpc_server import RequestHandler, start_server
from semscale.serving.server_config import ServeConfig


class _Towers:
    def __init__(self, model: Any) -> None:
        self.model = model

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixel_values)

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(input_ids)


class StockEncoder(CLIPEncoder):
    """clip-server's executor without its model loader."""

    def __init__(self, **kwargs: Any) -> None:
        super(CLIPEncoder, self).__init__(**kwargs)
        model, _, tokenize = load_mini()
        torch.set_num_threads(1)
        self._device, self._dtype, self._minibatch_size, self._access_paths = "cpu", torch.float32, 32, "@r"
        self._num_worker_preprocess = 2
        self._pool = ThreadPool(2)
        self._model = _Towers(model)
        self._tokenizer = lambda texts: {"input_ids": tokenize(texts), "attention_mask": torch.ones(len(texts), 77)}
        self._image_transform = clip._transform_blob(model.visual.preprocess_cfg["size"])
        self.tracer = NoOpTracer()


async def serve() -> None:
    server = await start_server(RequestHandler(StockEncoder()), ServeConfig("stock", port=int(sys.argv[1])))
    await server.wait_for_termination()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        asyncio.run(serve())
    with Flow(host="127.0.0.1", port=int(sys.argv[1])).add(uses=StockEncoder, name="clip") as flow:
        flow.block()
