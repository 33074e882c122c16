"""The network as ONNX graphs, for programs without torch; and these graphs in ONNX Runtime."""
