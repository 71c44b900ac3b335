"""Classify pictures.

python classify.py model.onnx picture...
"""

import sys

from taijitu import Classifier

model, *pictures = sys.argv[1:]
with Classifier.from_file(model) as classifier:
    for picture, prediction in zip(pictures, classifier.predict(pictures, top=3), strict=True):
        print(picture, *(f"{answer.label} {answer.probability:.1%}" for answer in prediction.answers), sep="  ")
