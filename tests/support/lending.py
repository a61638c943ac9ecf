"""A city library with an HTTP API of its own, which knows nothing of Headstart: 20 operations, as lending.openapi.yaml
says, each of which reads its arguments from where that document puts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

CONTRACT = Path(__file__).with_name("lending.openapi.yaml")
STAFF, PARTNER = "staff-token", "partner-key"
DUNE: dict[str, Any] = {
    "isbn": "9780441013593", "title": "Dune", "authors": ["Frank Herbert"], "tags": ["sand"], "added": "2020-01-02",
}  # fmt: skip
Answer = Callable[[Request], Awaitable[Response]]


class Library:
    """What it holds, and which requests came: (method, target, body)."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[str, str, bytes]] = []
        self.books: dict[str, dict[str, Any]] = {DUNE["isbn"]: dict(DUNE)}
        self.copies: dict[str, list[dict[str, Any]]] = {}
        self.members: dict[int, dict[str, Any]] = {1: {"id": 1, "name": "Ada"}, 2: {"id": 2, "name": "Bo"}}
        self.loans: dict[int, dict[str, Any]] = {}
        self.announced: list[str] = []
        self.keys: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2"

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def list_books(self, request: Request) -> Response:
        query = request.query_params
        found = [
            book
            for book in self.books.values()
            if query.get("author", "") in " ".join(book.get("authors", ()))
            and all(tag in book.get("tags", ()) for tag in query.getlist("tags"))
            and (query.get("available") != "true" or self.copies.get(book["isbn"]))
        ]
        return JSONResponse(found[: int(query.get("limit", 10))])

    async def add_book(self, request: Request) -> Response:
        key = request.headers["idempotency-key"]
        if key not in self.keys:
            given = await self._json(request)
            self.keys[key] = self.books[given["isbn"]] = {**given, "added": "2026-11-21"}
        return JSONResponse(self.keys[key], 201)

    async def get_book(self, request: Request) -> Response:
        return JSONResponse(self._book(request))

    async def replace_book(self, request: Request) -> Response:
        isbn = self._book(request)["isbn"]
        self.books[isbn] = {**await self._json(request), "isbn": isbn, "added": "2026-11-21"}
        return JSONResponse(self.books[isbn])

    async def change_book(self, request: Request) -> Response:
        if request.headers["content-type"] != "application/merge-patch+json":
            raise HTTPException(415)
        self._book(request).update(await self._json(request))
        return JSONResponse(self._book(request))

    async def remove_book(self, request: Request) -> Response:
        del self.books[self._book(request)["isbn"]]
        return Response(status_code=204)

    async def list_copies(self, request: Request) -> Response:
        ids = [int(text) for text in request.query_params.get("ids", "").split(",") if text]
        copies = self.copies.get(self._book(request)["isbn"], [])
        return JSONResponse([copy for copy in copies if not ids or copy["id"] in ids])

    async def add_copies(self, request: Request) -> Response:
        given = await self._json(request)
        copies = self.copies.setdefault(self._book(request)["isbn"], [])
        copies += [{"id": len(copies) + n + 1, "shelf": given["shelf"]} for n in range(given["count"])]
        return JSONResponse({"copies": len(copies)}, 201)

    async def find_members(self, request: Request) -> Response:
        name = request.query_params.get("filter[name]", "")
        return JSONResponse([member for member in self.members.values() if name in member["name"]])

    async def add_member(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        number = max(self.members) + 1
        self.members[number] = {"id": number, "name": form["name"][0], "interests": form.get("interests", [])}
        return JSONResponse(self.members[number], 201)

    async def get_member(self, request: Request) -> Response:
        return JSONResponse(self._of(self.members, request.path_params["member"]))

    async def remove_member(self, request: Request) -> Response:
        del self.members[self._of(self.members, request.path_params["member"])["id"]]
        return Response(status_code=204)

    async def list_loans(self, request: Request) -> Response:
        member = int(request.query_params["member"])
        found = [loan for loan in self.loans.values() if loan["member"] == member and not loan["returned"]]
        return JSONResponse(found, headers={"x-request-id": request.headers.get("x-request-id", "")})

    async def lend_book(self, request: Request) -> Response:
        given = await self._json(request)
        number = len(self.loans) + 1
        self.loans[number] = {"loan_id": number, "days": 28, "returned": False, **given}
        return JSONResponse(self.loans[number], 201)

    async def return_book(self, request: Request) -> Response:
        loan = self._of(self.loans, request.path_params["loan"])
        loan["returned"] = True
        return JSONResponse(loan)

    async def extend_loan(self, request: Request) -> Response:
        loan = self._of(self.loans, request.path_params["loan"])
        loan["days"] += await self._json(request)
        return JSONResponse(loan)

    async def opening_hours(self, request: Request) -> Response:
        days = request.query_params.get("days", "mon|tue").split("|")
        return PlainTextResponse(", ".join(f"{day} 9-17" for day in days))

    async def announce(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {STAFF}":
            raise HTTPException(401)
        self.announced.append((await self._json(request))["text"])
        return Response(status_code=202)

    async def statistics(self, request: Request) -> Response:
        if request.query_params.get("key") != PARTNER:
            raise HTTPException(401)
        body = orjson.dumps({"loans": len(self.loans)})
        return Response(body, media_type="application/vnd.lending.v2+json")

    def app(self) -> Starlette:
        """GET answers HEAD too."""
        said: list[tuple[str, str, Answer]] = [
            ("GET", "/books", self.list_books), ("POST", "/books", self.add_book),
            ("GET", "/books/{isbn}", self.get_book), ("PUT", "/books/{isbn}", self.replace_book),
            ("PATCH", "/books/{isbn}", self.change_book), ("DELETE", "/books/{isbn}", self.remove_book),
            ("GET", "/books/{isbn}/copies", self.list_copies), ("POST", "/books/{isbn}/copies", self.add_copies),
            ("GET", "/members", self.find_members), ("POST", "/members", self.add_member),
            ("GET", "/members/{member}", self.get_member), ("DELETE", "/members/{member}", self.remove_member),
            ("GET", "/loans", self.list_loans), ("POST", "/loans", self.lend_book),
            ("POST", "/loans/{loan}/return", self.return_book), ("POST", "/loans/{loan}/extend", self.extend_loan),
            ("GET", "/opening-hours", self.opening_hours), ("POST", "/announcements", self.announce),
            ("GET", "/statistics", self.statistics),
        ]  # fmt: skip
        routes = [Route(f"/v2{path}", self._noted(answer), methods=[method]) for method, path, answer in said]
        return Starlette(routes=[*routes, Route("/openapi.yaml", self.contract)])

    async def contract(self, request: Request) -> Response:
        return PlainTextResponse(CONTRACT.read_text())

    def _noted(self, answer: Answer) -> Answer:
        async def noting(request: Request) -> Response:
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            self.requests.append((request.method, target, await request.body()))
            return await answer(request)

        return noting

    def _book(self, request: Request) -> dict[str, Any]:
        return self._of(self.books, request.path_params["isbn"], str)

    def _of(self, things: dict[Any, dict[str, Any]], key: str, kind: Callable[[str], Any] = int) -> dict[str, Any]:
        if kind(key) not in things:
            raise HTTPException(404)
        return things[kind(key)]

    async def _json(self, request: Request) -> Any:
        return orjson.loads(await request.body())


@asynccontextmanager
async def library() -> AsyncIterator[Library]:
    """A library that answers on a free port."""
    held = Library()
    config = uvicorn.Config(held.app(), port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    held.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield held
    finally:
        server.should_exit = True
        await task
