"""`python -m gateway --config inferway.yaml`."""

import argparse
import sys
from pathlib import Path

import uvloop

from gateway.app import build
from gateway.configuration import ConfigurationError
from gateway.logs import configure
from gateway.server import serve
from gateway.settings import load_settings


def main() -> int:
    """Run the gateway until it is told to stop; 2 when its configuration cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The Inferway gateway.")
    parser.add_argument("--config", type=Path, default=Path("inferway.yaml"), help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="check the configuration and stop")
    arguments = parser.parse_args()
    try:
        settings = load_settings(arguments.config)
        configure(settings.log)
        gateway = build(settings, arguments.config.parent)
        if arguments.check:
            sys.stdout.write(f"{arguments.config}: ok\n")
        else:
            uvloop.run(serve(gateway, settings.server))
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
