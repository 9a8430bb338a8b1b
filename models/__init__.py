"""ONNX models, one folder each: definition, training, evaluation, contract."""
