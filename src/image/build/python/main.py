"""Makes app.py the program of a container. Runs twice: imported while the component is built, `run` in it."""

import os
import random
import sys
import traceback

# Codecs are looked up by name when they are first used, which is too late to import them.
import encodings.ascii
import encodings.idna
import encodings.latin_1
import encodings.utf_8
import encodings.utf_8_sig

from wit_world.imports import environment, exit

import app

if not callable(getattr(app, "main", None)):
    raise SystemExit("app.py has no function main(); what the program does belongs there")


class Run:
    def run(self) -> None:
        # The snapshot has the builder's.
        os.environ.clear()
        os.environ.update(environment.get_environment())
        sys.argv[:] = environment.get_arguments()
        random.seed()
        sys.stdout.reconfigure(line_buffering=True)
        try:
            code = app.main()
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
            code = 1
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        if code:
            exit.exit_with_code(int(code) & 255)
