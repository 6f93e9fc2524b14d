"""Verifies one assertion, read from standard input, with PyPI's PyJWT. README.md has the contract."""

import sys

import jwt

from verifying import run

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


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
    sys.exit(run(__doc__, ("--jwks", "--audience", "--issuer"), verify))
