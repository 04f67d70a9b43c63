"""LitServe: an API process and one worker, batches of up to 32 requests gathered for 1 ms."""

from typing import Any

import litserve

from benchmarks.serving.peers.classifier import load, port

Found = list[tuple[str, float]]


class Texts(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.classifier = load()

    def decode_request(self, request: dict[str, Any]) -> list[str]:
        return request["inputs"]

    def batch(self, inputs: list[list[str]]) -> list[list[str]]:
        return inputs

    def predict(self, x: list[list[str]]) -> list[Found]:
        found = iter(self.classifier.classify([text for texts in x for text in texts]))
        return [[next(found) for _ in texts] for texts in x]

    def unbatch(self, output: list[Found]) -> list[Found]:
        return output

    def encode_response(self, output: Found) -> dict[str, Any]:
        return {"predictions": [{"label": label, "score": score} for label, score in output]}


if __name__ == "__main__":
    api = Texts(max_batch_size=32, batch_timeout=0.001, api_path="/predict")
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1",
        port=port(),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
