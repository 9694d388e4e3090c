"""A guest in Python: the standard library's sockets.

    checks                    TAP lines, against itself
    serve PORT                echoes TCP and UDP, many connections at once, until accept fails
    talk tcp|udp HOST PORT    a conversation with such a server, TAP lines
"""

import sys

import checks
import echo


def main() -> int:
    match sys.argv[1:]:
        case ["checks"]:
            return checks.run()
        case ["serve", port]:
            return echo.serve(int(port))
        case ["talk", kind, host, port]:
            return echo.talk(kind, host, int(port))
    print(__doc__, file=sys.stderr)
    return 1
