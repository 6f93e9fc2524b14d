"""Verifies evidence of a key's custody, read from standard input, with PyPI's PyJWT and cryptography, by the words of
docs/adr/0014-custody-evidence.md and nothing of Hallmark's."""

import base64
import json
import sys

import jwt

from verifying import run


def verify(evidence, options):
    with open(options.jwks, encoding="utf-8") as file:
        custody = jwt.PyJWKSet.from_dict(json.load(file))
    kid = jwt.get_unverified_header(evidence)["kid"]
    token = jwt.decode_complete(evidence, custody[kid], algorithms=["ES256", "RS256"], options={"require": ["iat", "jti"]})
    about = token["payload"]["evidence"]
    nonce = unpadded(about["nonce"])
    if token["header"]["typ"] != "hallmark-evidence+jwt" or nonce != bytes.fromhex(options.nonce):
        raise ValueError("another typ or nonce")
    message = b"hallmark-possession-v1\0" + about["kid"].encode() + nonce
    key = jwt.PyJWK(about["jwk"])
    if not key.Algorithm.verify(message, key.key, unpadded(about["possession"])):
        raise ValueError("the key did not sign")
    return token


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


if __name__ == "__main__":
    sys.exit(run(__doc__, ("--jwks", "--nonce"), verify))
