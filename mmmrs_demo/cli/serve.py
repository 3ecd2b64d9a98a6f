"""``mmmrs-demo serve``: the page."""

from __future__ import annotations

import argparse

from mmmrs_demo.cli.command import BUNDLE, Command, EngineFactory, house
from mmmrs_demo.errors import UserError


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, or GRADIO_SERVER_NAME)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 7860, or GRADIO_SERVER_PORT)")
    parser.add_argument("--bundle", metavar="KEY", help=BUNDLE)


def _serve(args: argparse.Namespace, engine_factory: EngineFactory) -> None:
    if args.port is not None and not 0 < args.port < 2**16:
        raise UserError(f"A port is a number from 1 to {2**16 - 1:,}, not {args.port}.")
    settings, catalog = house(args.bundle)
    from mmmrs_demo.ui import serve

    try:
        serve(engine_factory(catalog, settings), catalog, settings, server_name=args.host, server_port=args.port)
    except OSError as error:
        raise UserError(
            "The page cannot be served there, as if the port were taken: choose another --port or --host."
        ) from error


SERVE = Command(
    "open the page in a browser",
    _serve,
    _serve_arguments,
    "Serve the page until Ctrl-C.",
    """examples:
  mmmrs-demo serve
  mmmrs-demo serve --host 0.0.0.0 --port 8080      reachable from other machines""",
)
