"""MLServer: its runtime class, started with one model. No adaptive batching, no worker processes."""

import numpy as np
import uvloop
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serving.peers.classifier import load, port


class Texts(MLModel):
    async def load(self) -> bool:
        self.classifier = load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self.classifier.classify(StringCodec.decode_input(payload.inputs[0]))
        labels, scores = zip(*found, strict=True)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("label", labels),
                NumpyCodec.encode_output("score", np.array(scores)[:, None]),
            ],
        )


async def main() -> None:
    settings = Settings(
        debug=False,  # no access log
        host="127.0.0.1",
        http_port=port(),
        grpc_port=port() + 1,
        parallel_workers=0,
        metrics_endpoint=None,
        gzip_enabled=False,
        load_models_at_startup=False,
    )
    await MLServer(settings).start([ModelSettings(name="texts", implementation=Texts)])


if __name__ == "__main__":
    uvloop.run(main())
