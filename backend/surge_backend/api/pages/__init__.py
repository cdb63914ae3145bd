"""What a person opens in a browser: the status page and the API's page. Both load only what this server
serves.

Place in the flow: public routes over the files beside this module, and over Swagger UI's files as the package
`fastapi-offline` carries them. Reads each file once, when the application is made.

Rule kept: only the files named here are served, by exact name; there is no directory to walk out of.
"""

from collections.abc import Callable
from importlib.resources import files

from fastapi import Response

from surge_backend.api import problems
from surge_backend.api.guard import PUBLIC
from surge_backend.api.problems import Problem
from surge_backend.api.routes import Routes

CACHE_S = 3_600  # a page's parts may be kept that long; the pages themselves not

_OWN = {
    "index.js": "text/javascript",
    "surge.css": "text/css",
    "surge.svg": "image/svg+xml",
    "docs.js": "text/javascript",
    "docs.css": "text/css",
}
_SWAGGER_UI = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_PAGES = {"/": "index.html", "/docs": "docs.html"}


def make_routes() -> Routes:
    """The routes of the pages and their parts."""
    routes = Routes("pages")
    here = files(__name__)
    swagger_ui = files("fastapi_offline") / "static"
    parts = {name: (here.joinpath(name).read_bytes(), media) for name, media in _OWN.items()}
    parts |= {name: ((swagger_ui / name).read_bytes(), media) for name, media in _SWAGGER_UI.items()}

    for path, name in _PAGES.items():
        routes.get(path, access=PUBLIC, include_in_schema=False)(
            _page(here.joinpath(name).read_text("utf-8"))
        )

    @routes.get("/pages/{name}", access=PUBLIC, include_in_schema=False)
    def get_part(name: str) -> Response:
        part = parts.get(name)
        if part is None:
            raise Problem(problems.NOT_FOUND)
        content, media = part
        headers = {"Cache-Control": f"public, max-age={CACHE_S}"}
        return Response(content, media_type=f"{media}; charset=utf-8", headers=headers)

    return routes


def _page(html: str) -> Callable[[], Response]:
    def get_page() -> Response:
        return Response(html, media_type="text/html; charset=utf-8")

    return get_page
