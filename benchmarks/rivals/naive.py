"""The server that one writes in ten minutes, without mistakes: FastAPI, OpenCV and ONNX Runtime on one thread.

MODEL=model.onnx python -m uvicorn naive:app --port 8011     POST /raw (a picture), /classify (a form)
"""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, Request, UploadFile

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
height, width = session.get_inputs()[0].shape[1:3]
app = FastAPI()


def classify(body: bytes) -> dict[str, Any]:
    """Return the five likeliest classes."""
    image: Any = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    image = cv2.cvtColor(cv2.resize(image, (width, height)), cv2.COLOR_BGR2RGB)
    logits = session.run(None, {"images": image[None]})[0][0]
    powers = np.exp(logits - logits.max())
    powers /= powers.sum()
    return {"top": [{"class": int(k), "probability": float(powers[k])} for k in powers.argsort()[::-1][:5]]}


@app.post("/raw")
async def raw(request: Request) -> dict[str, Any]:
    """Classify a picture sent as the body."""
    return classify(await request.body())


@app.post("/classify")
async def multipart(file: UploadFile) -> dict[str, Any]:
    """Classify a picture in a form."""
    return classify(await file.read())
