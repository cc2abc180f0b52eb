"""A route for what is asked most: FastAPI documents and finds it, and answers only what does not fit."""

from __future__ import annotations

from functools import cached_property
from typing import get_type_hints

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Message, Receive, Scope, Send


class QuickRoute(APIRoute):
    """Its endpoint takes the JSON body, a model, and the request, and returns a Response.

    A request that fits at first sight goes to the endpoint at once. Any other goes FastAPI's way, which takes
    a quarter of a millisecond more, and says what is wrong with it.
    """

    @cached_property
    def _body(self) -> type[BaseModel]:
        found: type[BaseModel] = get_type_hints(self.endpoint)["body"]
        return found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["method"] != "POST" or (b"content-type", b"application/json") not in scope["headers"]:
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        sent = await request.body()
        try:
            body = self._body.model_validate_json(sent, strict=True)
        except ValidationError:
            await super().handle(scope, _again(sent, receive), send)
            return
        response = await self.endpoint(body, request)
        await response(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """Receives a body that was read already, then what comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return messages.pop() if messages else await receive()

    return received
