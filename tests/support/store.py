"""An object store: moto's server of S3, in this process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "bucket"


class Store:
    """A bucket that this process, and those that it starts, reach by the environment."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.client: Any = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        self.client.create_bucket(Bucket=BUCKET)

    def uri(self, path: str) -> str:
        return f"s3://{BUCKET}/{path}"

    def names(self, folder: str) -> list[str]:
        """The files below a folder, without the marks of folders."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{folder}/"
        )
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return [key.removeprefix(f"{folder}/") for key in keys if not key.endswith("/")]

    def read(self, path: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=path)["Body"].read()
        return content

    def write(self, path: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=path, Body=content)

    def remove(self, path: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=path)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse all keys in the block."""
        address = f"{self.endpoint}/moto-api/reset-auth"
        httpx.post(address, content=b"0").raise_for_status()
        try:
            yield
        finally:
            httpx.post(address, content=b"inf").raise_for_status()


@contextmanager
def started_store() -> Iterator[Store]:
    """Start a store, name it in the environment, and end it after the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "key")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"):
            environment.delenv(name, raising=False)
        try:
            yield Store(f"http://{host}:{port}")
        finally:
            server.stop()
