"""OpenEMR 7's token endpoint as far as client assertions go, on loopback. README.md has the contract.

OpenEMR itself can't run here. What it does with an assertion was read in its source and measured: it fetches the JWKS for
each token request, takes the first RSA key of it whatever the `kid` says, and takes RS384 alone. The signature is PyJWT's
to verify.
"""

import json
import secrets
import urllib.request

import jwt
from flask import jsonify, request

from serving import emit, serve

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# LooseValidAt's leeway, in seconds.
LEEWAY = 60
# The column in jwt_grant_history.
LONGEST_JTI = 100


def main():
    serve(__doc__, add_routes)


def add_routes(app, origin):
    issuer = f"{origin}/oauth2/default"
    OpenEmr(f"{issuer}/token").add_routes(app)
    return {"issuer": issuer, "token_endpoint": f"{issuer}/token", "control": f"{origin}/control"}


class Refused(Exception):
    """The reason, which OpenEMR tells its log and nobody else."""


class OpenEmr:
    def __init__(self, token_endpoint):
        self.token_endpoint = token_endpoint
        self.clients = {}
        self.used = set()

    def add_routes(self, app):
        @app.post("/oauth2/default/token")
        def token():
            try:
                client_id = self.authenticate(request.form)
            except Refused as refused:
                emit({"event": "refused", "error": "invalid_client", "detail": str(refused)})
                return jsonify(error="invalid_client", error_description="Client authentication failed"), 400
            emit({"event": "token_issued", "client_id": client_id})
            return jsonify(access_token=secrets.token_urlsafe(), token_type="Bearer", expires_in=300)

        @app.post("/control/clients")
        def register():
            client = request.get_json()
            if client["alg"] != "RS384":
                return jsonify(error="invalid_client_metadata", detail=f"not supported: `{client['alg']}`"), 400
            self.clients[client["client_id"]] = client["jwks_uri"]
            return jsonify(client_id=client["client_id"]), 201

    def authenticate(self, form):
        if form.get("grant_type") != "client_credentials" or form.get("client_assertion_type") != ASSERTION_TYPE:
            raise Refused("no client assertion")
        assertion = form.get("client_assertion", "")
        try:
            client_id = jwt.decode(assertion, options={"verify_signature": False}).get("sub")
            if client_id not in self.clients:
                raise Refused(f"no such client: `{client_id}`")
            key = first_rsa_key(self.clients[client_id])
            claims = jwt.decode(
                assertion,
                key,
                algorithms=["RS384"],
                audience=self.token_endpoint,
                issuer=client_id,
                leeway=LEEWAY,
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        self.use(client_id, claims.get("jti"))
        return client_id

    def use(self, client_id, jti):
        if not isinstance(jti, str) or not 0 < len(jti) <= LONGEST_JTI:
            raise Refused(f"`jti` can't be stored: {jti!r}")
        if (client_id, jti) in self.used:
            raise Refused("`jti` was used before")
        self.used.add((client_id, jti))


def first_rsa_key(url):
    """For each token request anew."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            keys = json.load(response)["keys"]
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"cannot fetch the JWKS: {error}") from error
    for key in keys:
        if key["kty"] == "RSA":
            return jwt.PyJWK(key, algorithm="RS384").key
    raise Refused("no RSA key in the JWKS")


if __name__ == "__main__":
    main()
