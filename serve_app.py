"""The Ray Serve application by a short name: `serve run serve_app:build models=MODEL_DIR`.

Serve configs name it as `import_path: serve_app:build`; `s2s.distributed.deployment` has the code.
"""

from s2s.distributed.deployment import Arguments, build

__all__ = ["Arguments", "build"]
