"""A real authorization server (Authlib on Flask) on loopback. README.md has the contract."""

import json
import os
import urllib.request
from dataclasses import dataclass

# Authlib refuses plain http otherwise; on loopback there is nobody to listen.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, InvalidClientError, InvalidScopeError
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from flask import g, jsonify, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from serving import emit, serve

# Authlib's own choice is RS256 and ES256; the other two are admitted per client.
ALGORITHMS = ["RS256", "RS384", "ES256", "ES384"]
AUTH_METHOD = JWTBearerClientAssertion.CLIENT_AUTH_METHOD


def main():
    serve(__doc__, add_routes)


@dataclass
class Client(ClientMixin):
    """One client as registered at the control endpoint."""

    client_id: str
    jwks_uri: str
    alg: str
    scope: str = ""

    def get_client_id(self):
        return self.client_id

    def get_allowed_scope(self, scope):
        return " ".join(s for s in (scope or "").split() if s in self.scope.split())

    def check_endpoint_auth_method(self, method, endpoint):
        return method == AUTH_METHOD and endpoint == "token"

    def check_grant_type(self, grant_type):
        return grant_type == ClientCredentialsGrant.GRANT_TYPE


class Assertion(JWTBearerClientAssertion):
    """Authlib's check of a client assertion, with the client's registered algorithm and JWKS."""

    def __init__(self, issuer):
        super().__init__()
        self.issuer = issuer
        self.seen = set()

    def get_audiences(self):
        return [f"{self.issuer}/token", self.issuer]

    def resolve_client_public_key(self, client):
        g.client = client
        return fetch_jwks(client.jwks_uri)

    def process_assertion_claims(self, assertion, resolve_key):
        try:
            token = jwt.decode(assertion, resolve_key, algorithms=[g.client.alg])
        except (JoseError, ValueError) as error:
            raise InvalidClientError(description=str(error)) from error
        self.verify_claims(token.claims)
        return token.claims

    def validate_jti(self, claims, jti):
        used = (claims["sub"], jti)
        fresh = used not in self.seen
        self.seen.add(used)
        return fresh


class Grant(ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = [AUTH_METHOD]

    def validate_requested_scope(self):
        wanted = self.request.payload.scope or ""
        if self.client.get_allowed_scope(wanted).split() != wanted.split():
            raise InvalidScopeError()


def add_routes(app, issuer):
    """At the root: the issuer is the origin."""
    clients = {}
    server = AuthorizationServer(app, query_client=clients.get, save_token=lambda token, request: None)
    server.register_client_auth_method(AUTH_METHOD, Assertion(issuer))
    server.register_grant(Grant)

    @app.post("/token")
    def token():
        response = server.create_token_response()
        if response.status_code == 200:
            emit({"event": "token_issued", "client_id": g.client.client_id})
        else:
            body = response.get_json(force=True, silent=True) or {}
            emit({"event": "refused", "error": body.get("error"), "detail": body.get("error_description", "")})
        return response

    @app.post("/control/clients")
    def register():
        try:
            client = Client(**request.get_json())
        except TypeError as error:
            return jsonify(error="invalid_client_metadata", detail=str(error)), 400
        if client.alg not in ALGORITHMS:
            return jsonify(error="invalid_client_metadata", detail=f"not supported: `{client.alg}`"), 400
        clients[client.client_id] = client
        return jsonify(client_id=client.client_id), 201

    return {"issuer": issuer, "token_endpoint": f"{issuer}/token", "control": f"{issuer}/control"}


def fetch_jwks(url):
    """Fetched anew for each token request: nothing is cached here."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            keys = KeySet.import_key_set(json.load(response))
    except (OSError, ValueError, JoseError) as error:
        emit({"event": "jwks_fetch", "url": url, "error": str(error)})
        raise InvalidClientError(description=f"cannot fetch the client's JWKS: {error}") from error
    emit({"event": "jwks_fetch", "url": url, "status": 200})
    return keys


if __name__ == "__main__":
    main()
