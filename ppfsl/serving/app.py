"""The HTTP API of the page, described at /openapi.json: sessions, support pictures, classifiers, answers.

A session's token comes in the header X-Session. Work on pictures is done by one thread, since the embedder is one;
a few requests wait for it, more are sent away.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from fastapi import FastAPI, File, Header, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ppfsl.classifier.pictures import Unreadable
from ppfsl.classifier.show import as_json
from ppfsl.errors import UserError
from ppfsl.serving.sessions import LimitError, Sessions, UnknownSessionError
from ppfsl.version import __version__

Value = TypeVar("Value")
Token = Annotated[str, Header(alias="X-Session", max_length=100)]
Files = Annotated[list[UploadFile], File()]

_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_UPLOADS = ("/api/pictures", "/api/answers")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class BusyError(LimitError):
    """Too many requests wait for their turn."""


def build_app(sessions: Sessions, hosts: Sequence[str]) -> FastAPI:
    """The application.

    Args:
        sessions: of its visitors.
        hosts: names under which it may be asked; others are refused, so that no foreign page can reach it by a name of
            its own that points here.
    """
    # Else Starlette writes pictures of more than a megabyte to the disk, while the page says that they stay in memory.
    MultiPartParser.spool_max_size = sessions.limits.request_bytes + 1
    pool, waiting = ThreadPoolExecutor(1, "ppfsl"), [0]

    async def at_work(function: Callable[[], Value]) -> Value:
        if waiting[0] >= sessions.limits.waiting:
            raise BusyError("there is too much to do at the moment; try again in a few seconds")
        waiting[0] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function)
        finally:
            waiting[0] -= 1

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        pool.shutdown(cancel_futures=True)

    app = FastAPI(
        title="ppfsl", version=__version__, description=__doc__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(LimitedBody, most=sessions.limits.request_bytes)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    _handle_errors(app)
    _refuse_strangers(app, sessions)
    _serve_page(app)

    @app.post("/api/sessions", status_code=201)
    def open_session() -> dict[str, str]:
        """Begin: the token for the header X-Session."""
        return {"session": sessions.open()}

    @app.delete("/api/session", status_code=204)
    def close_session(token: Token) -> None:
        """Forget everything that the session holds."""
        sessions.close(token)

    @app.get("/api/session")
    def show_session(token: Token) -> dict[str, Any]:
        """The classes and their pictures."""
        session = sessions.get(token)
        pictures = dict(session.pictures)
        of: dict[str, list[dict[str, Any]]] = {}
        for number, picture in pictures.items():
            of.setdefault(picture.label, []).append({"number": number, "name": picture.name})
        return {
            "classes": [{"label": label, "pictures": found} for label, found in of.items()],
            "built": session.built is not None,
        }

    @app.post("/api/pictures")
    async def add_pictures(
        token: Token, label: Annotated[str, Query(max_length=200)], files: Files
    ) -> list[dict[str, Any]]:
        """Add pictures to a class: the number of each, or why it cannot be read."""
        session = sessions.get(token)
        contents = await _contents(files, sessions.limits.pictures_per_request)
        added = await at_work(lambda: sessions.add(session, label, contents))
        return [
            {"picture": name, "error": one.reason} if isinstance(one, Unreadable) else {"picture": name, "number": one}
            for (name, _), one in zip(contents, added, strict=True)
        ]

    @app.get("/api/pictures/{number}")
    def show_picture(token: Token, number: int) -> Response:
        """A small copy of a support picture, JPEG."""
        picture = sessions.get(token).pictures.get(number)
        if picture is None:
            raise UnknownSessionError(f"there is no picture {number} in this session")
        return Response(picture.jpeg(), media_type="image/jpeg")

    @app.delete("/api/pictures/{number}", status_code=204)
    def remove_picture(token: Token, number: int) -> None:
        """Forget a support picture."""
        sessions.remove(sessions.get(token), [number])

    @app.post("/api/classifier")
    async def build(token: Token) -> dict[str, Any]:
        """Build a classifier of the session's pictures."""
        session = sessions.get(token)
        built = await at_work(lambda: sessions.build(session))
        rejection = built.classifier.rejection
        return {
            "classes": list(built.classifier.class_names),
            "left_out": built.left_out,
            "right": built.right,
            "rejection": None if rejection is None else vars(rejection),
        }

    @app.get("/api/classifier")
    async def keep(token: Token) -> Response:
        """The classifier as a file, for tools/predict.py; it holds the small copies and names of its pictures."""
        session = sessions.get(token)
        name = {"Content-Disposition": 'attachment; filename="classifier.safetensors"'}
        return Response(await at_work(lambda: sessions.file(session)), 200, name, "application/octet-stream")

    @app.post("/api/answers")
    async def label(token: Token, files: Files) -> list[dict[str, Any]]:
        """Label pictures; `nearest` names the most similar support pictures by number."""
        session = sessions.get(token)
        contents = await _contents(files, sessions.limits.pictures_per_request)
        answers = await at_work(lambda: sessions.answer(session, contents))
        found = []
        for answer, numbers in answers:
            value = as_json(answer)
            for near, number in zip(value.get("nearest", []), numbers, strict=True):
                near["number"] = number
            found.append(value)
        return found

    return app


async def _contents(files: Sequence[UploadFile], most: int) -> list[tuple[str, bytes]]:
    if len(files) > most:
        raise LimitError(f"a request may bring {most} pictures at most")
    return [((file.filename or "picture")[-200:], await file.read()) for file in files]


def _refusal(error: UserError) -> JSONResponse:
    """What a visitor is told of a mistake, with the status of its kind."""
    kinds = ((BusyError, 503), (UnknownSessionError, 404), (LimitError, 413))
    status = next((status for kind, status in kinds if isinstance(error, kind)), 400)
    return JSONResponse({"error": str(error)}, status)


def _handle_errors(app: FastAPI) -> None:
    """A user's mistake is one sentence in JSON."""

    @app.exception_handler(UserError)
    def answer(request: Request, error: UserError) -> JSONResponse:
        return _refusal(error)

    @app.exception_handler(RequestValidationError)
    def name(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    @app.exception_handler(HTTPException)
    def tell(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)


def _refuse_strangers(app: FastAPI, sessions: Sessions) -> None:
    """Refuse what foreign pages send, and, before their bodies are read, uploads of nobody and too many at once."""
    uploads = [0]

    async def received(request: Request, call_next: Callable[[Request], Any]) -> Response:
        if request.method != "POST" or request.url.path not in _UPLOADS:
            return await call_next(request)
        try:
            sessions.get(request.headers.get("x-session", ""))
        except UnknownSessionError as error:
            return _refusal(error)
        if uploads[0] >= sessions.limits.uploads:
            return _refusal(BusyError("there are too many uploads at the moment; try again in a few seconds"))
        uploads[0] += 1
        try:
            return await call_next(request)
        finally:
            uploads[0] -= 1

    @app.middleware("http")
    async def harden(request: Request, call_next: Callable[[Request], Any]) -> Response:
        origin = request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
        if foreign or request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return JSONResponse({"error": "requests from other sites are refused"}, 403)
        response = await received(request, call_next)
        response.headers.update(_HEADERS)
        return response


def _serve_page(app: FastAPI) -> None:
    for path, (name, kind) in _PAGE.items():
        content = resources.files("ppfsl.serving").joinpath(name).read_bytes()

        def page(content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=f"{kind}; charset=utf-8")

        app.add_api_route(path, page, include_in_schema=False)


class LimitedBody:
    """Refuses requests whose body is longer than a limit, whatever they say of its length.

    Args:
        app: what it guards.
        most: bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_long = LimitError(f"a request may have {self._most} bytes at most")
        said = dict(scope["headers"]).get(b"content-length", b"0")
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise too_long
            return message

        if said.isdigit() and int(said) > self._most:
            await _refusal(too_long)(scope, receive, send)
            return
        await self._app(scope, counted, send)
