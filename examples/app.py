"""Translate in a web application of your own, with FastAPI.

    python examples/app.py model 8000
    curl localhost:8000/translate --json '{"texts": ["I am cold."]}'

To serve nothing but translations, take `s2s serve`: there, the sentences of all requests share
batches, and there are API keys, limits, several models and metrics.
"""

import sys
from pathlib import Path
from threading import Lock
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import s2s
from s2s.errors import BadInput

Text = Annotated[str, Field(max_length=2000)]


class Texts(BaseModel):
    """The body of a request."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=100)]
    """Texts in the source language of the model."""

    beam: Annotated[int, Field(ge=1, le=16)] | None = None
    """Beam width; None takes the model's own."""


class Translated(BaseModel):
    """The body of a response."""

    translations: list[str]


def create_app(model: Path) -> FastAPI:
    """Return an application that translates with one model.

    Raises:
        BadInput: `model` is not a complete model directory.
    """
    translator = s2s.load(model)  # once: each request would wait for the weights
    turn = Lock()
    app = FastAPI(title="My translator")

    @app.post("/translate")
    def translate(request: Texts) -> Translated:
        chosen = translator.with_settings(beam=request.beam)  # of the same weights
        # FastAPI runs this function in a thread for each request, and one translation already
        # uses every core: the requests take turns. The texts of a request share batches.
        with turn:
            return Translated(translations=chosen.translate(request.texts))

    @app.exception_handler(BadInput)
    def refuse(_: Request, error: BadInput) -> JSONResponse:
        """Tell the client what is wrong: by default, an exception is a fault of the server."""
        return JSONResponse({"detail": str(error)}, status_code=400)

    return app


if __name__ == "__main__":
    try:
        application = create_app(Path(sys.argv[1]))
    except BadInput as error:
        raise SystemExit(f"error: {error}") from None
    uvicorn.run(application, port=int(sys.argv[2]))
