"""The page: /, /operate and /tradeoffs.

No inline script or style, and nothing from another host, so that the policy can forbid all of that.
"""

from flask import Blueprint, Flask, Response, render_template

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # blob: pictures fetched with a key; data: the small copy of a dropped picture, kept for the session.
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
    """Add the routes of the page."""
    pages = Blueprint("pages", __name__)
    pages.add_url_rule("/", "search", lambda: _page("search.html"))
    pages.add_url_rule("/operate", "operate", lambda: _page("operate.html"))
    pages.add_url_rule("/tradeoffs", "tradeoffs", lambda: _page("tradeoffs.html"))
    app.register_blueprint(pages)


def _page(template: str) -> Response:
    response = Response(render_template(template), mimetype="text/html")
    response.headers.update(_HEADERS)
    return response
