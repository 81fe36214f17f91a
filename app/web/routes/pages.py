"""The web page: /, /operate and /tradeoffs.

It has no inline scripts or styles and loads nothing from other hosts, so that the policy can forbid both.
"""

from flask import Blueprint, Flask, Response, render_template

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # blob: pictures fetched with a key; data: the small copy of the user's own picture.
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}


def register(app: Flask) -> None:
    """Add the page's routes."""
    pages = Blueprint("pages", __name__)
    pages.add_url_rule("/", "search", lambda: _page("search.html"))
    pages.add_url_rule("/operate", "operate", lambda: _page("operate.html"))
    pages.add_url_rule("/tradeoffs", "tradeoffs", lambda: _page("tradeoffs.html"))
    app.register_blueprint(pages)


def _page(template: str) -> Response:
    response = Response(render_template(template), mimetype="text/html")
    response.headers.update(_HEADERS)
    return response
