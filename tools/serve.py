"""A local page to try it on: drop pictures into named classes, press a button, show it new ones.

    pip install -r requirements-serve.txt
    python tools/serve.py                                     then open http://127.0.0.1:8000
    python tools/serve.py --checkpoint output/quickstart --port 8080

The same is to be had over HTTP; http://127.0.0.1:8000/openapi.json describes it. Only this
computer can reach the page, unless --host says otherwise: then anybody who can reach that address.
Nothing is kept after it ends.
"""

import contextlib
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import config_parser, read_config, run

_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "own_pictures.yaml"


def main() -> None:
    """Load the embedder, serve until interrupted."""
    parser = config_parser(__doc__ or "", default=_CONFIG)
    parser.add_argument("--checkpoint", type=Path, metavar="PATH", help="a run's folder, or a checkpoint of one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0: a free one")
    arguments = parser.parse_args()
    if not 0 <= arguments.port < 65536:
        parser.error(f"--port {arguments.port} is not in 0..65535")
    config, _ = read_config(arguments)
    from ppfsl.errors import UserError

    try:
        import uvicorn

        from ppfsl.serving.app import build_app
    except ImportError as error:
        raise UserError(f"the page needs more packages ({error}): pip install -r requirements-serve.txt") from None
    from ppfsl.classifier.build import linear_adaptation, open_source
    from ppfsl.config_file import refuse_unread
    from ppfsl.runtime import choose_device
    from ppfsl.serving.sessions import Sessions

    if arguments.checkpoint is not None:
        refuse_unread(arguments.override)
    adaptation = linear_adaptation(config.adaptations[0])
    choose_device(config.device)
    listener = _listen(arguments.host, arguments.port)
    sessions = Sessions(open_source(config, arguments.checkpoint), adaptation)
    local = arguments.host in ("127.0.0.1", "localhost", "::1")
    app = build_app(sessions, ["127.0.0.1", "localhost", "[::1]"] if local else ["*"])
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"http://{host}:{listener.getsockname()[1]}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        server.run([listener])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that waits for connections.

    Raises:
        UserError: when the address is taken, or none of this computer's.
    """
    from ppfsl.errors import UserError

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except (OSError, UnicodeError) as error:  # names are encoded before they are looked up
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (")[0]  # the address once is enough
        raise UserError(
            f"cannot listen at --host {host} --port {port}: {reason.lower()}; choose another address or port"
        ) from None


if __name__ == "__main__":
    run(main)
