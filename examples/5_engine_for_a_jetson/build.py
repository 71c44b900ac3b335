"""Build a float16 engine where it will run, and let it answer.

python build.py model.onnx model.engine [picture]
"""

import sys

from taijitu import Classifier, build_engine

model, engine, *pictures = sys.argv[1:]
result = build_engine(model, engine, precision="fp16")
built_for = result.card.built_for
print(f"{result.path}: {result.card.library.name} {result.card.library.version}, {built_for.gpu or built_for.platform}")
print("layers by precision:", ", ".join(f"{count} {name}" for name, count in result.card.precision.layers.items()))
if not result.answered:
    print("not run: this machine has no GPU for it")
elif pictures:
    with Classifier.from_file(result.path) as classifier:
        print(classifier.predict(pictures[0]).best)
