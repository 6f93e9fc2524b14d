"""What the programs share that verify one JWT with PyJWT: their options, and one line of JSON. README.md has the contract."""

import argparse
import json
import sys

import jwt


def run(description, names, verify):
    """Reads a JWT from standard input, and prints what `verify(text, options)` gives, or why it is refused: PyJWT's
    errors and ValueError. `names` are those of the options, all required. Gives the exit code."""
    parser = argparse.ArgumentParser(description=description)
    for name in names:
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    try:
        token = verify(sys.stdin.read().strip(), options)
    except (jwt.PyJWTError, ValueError) as error:
        print(json.dumps({"ok": False, "error": f"{type(error).__name__}: {error}"}))
        return 1
    print(json.dumps({"ok": True, "header": token["header"], "payload": token["payload"]}))
    return 0
