"""Make an artefact from an ONNX file of another exporter.

python export/adopt.py model.onnx -o adopted.onnx --like timm/resnet18.a1_in1k
"""

from taijitu_export.adopt.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
