"""Verifies one assertion, read from standard input, with PyPI's PyJWT. README.md has the contract."""

import argparse
import json
import sys

import jwt

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--jwks", "--audience", "--issuer"):
        parser.add_argument(option, required=True)
    options = parser.parse_args()
    try:
        token = verify(sys.stdin.read().strip(), options)
    except (jwt.PyJWTError, ValueError) as error:
        print(json.dumps({"ok": False, "error": f"{type(error).__name__}: {error}"}))
        return 1
    print(json.dumps({"ok": True, "header": token["header"], "payload": token["payload"]}))
    return 0


def verify(assertion, options):
    key = jwt.PyJWKClient(options.jwks, timeout=5).get_signing_key_from_jwt(assertion)
    return jwt.decode_complete(
        assertion,
        key,
        algorithms=ALGORITHMS,
        audience=options.audience,
        issuer=options.issuer,
        subject=options.issuer,
        options={"require": ["iat", "exp", "jti", "sub"]},
    )


if __name__ == "__main__":
    sys.exit(main())
