"""Results in the form of the Test Anything Protocol: one line a check."""

import sys
from collections.abc import Callable

_checks = 0
_failures = 0
_topic = ""


def topic(name: str) -> None:
    global _topic
    _topic = name


def ok(held: object, what: str) -> None:
    global _checks, _failures
    _checks += 1
    if held:
        print(f"ok {_checks} - {_topic}: {what}")
        return
    _failures += 1
    print(f"not ok {_checks} - {_topic}: {what}")
    print(f"# line {sys._getframe(1).f_lineno}")


def fails(error: type[OSError] | int, what: str, call: Callable[[], object]) -> None:
    """The call raises this error: a class, or an errno."""
    try:
        result = call()
    except OSError as raised:
        same = raised.errno == error if isinstance(error, int) else isinstance(raised, error)
        ok(same, what if same else f"{what}: {raised!r}")
    else:
        ok(False, f"{what}: {result!r}")


def done() -> int:
    print(f"1..{_checks}")
    print(f"# {_failures} failed")
    return 1 if _failures else 0
