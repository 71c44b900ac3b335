"""Do the same work on LitServe with its batching on.

MODEL=model.onnx python batching.py 8012     POST /predict (a form)
"""

import os
import sys
from typing import Any

import cv2
import litserve
import numpy as np
import onnxruntime as ort
from fastapi import Request


class Classify(litserve.LitAPI):  # type: ignore[misc]  # litserve has no types
    """Decode, batch, infer, answer."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.size = self.session.get_inputs()[0].shape[1:3]

    def decode_request(self, request: Request) -> Any:
        """Decode one picture of a form."""
        image: Any = cv2.imdecode(np.frombuffer(request["file"].file.read(), np.uint8), cv2.IMREAD_COLOR)
        return cv2.cvtColor(cv2.resize(image, self.size[::-1]), cv2.COLOR_BGR2RGB)

    def batch(self, inputs: list[Any]) -> Any:
        """Stack pictures of one size to one array."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """Compute the logits of a batch."""
        return self.session.run(None, {"images": x if x.ndim == 4 else x[None]})[0]

    def unbatch(self, output: Any) -> list[Any]:
        """Return a row for each request."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return the five likeliest classes."""
        logits = np.asarray(output).reshape(-1)
        powers = np.exp(logits - logits.max())
        powers /= powers.sum()
        return {"top": [{"class": int(k), "probability": float(powers[k])} for k in powers.argsort()[::-1][:5]]}


if __name__ == "__main__":
    server = litserve.LitServer(Classify(max_batch_size=8, batch_timeout=0.002), accelerator="cpu")
    server.run(port=int(sys.argv[1]), log_level="error", generate_client_file=False)
