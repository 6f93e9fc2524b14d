// A real authorization server (oidc-provider) on loopback. README.md has the contract.

import { once } from 'node:events';
import http from 'node:http';

import { decodeJwt } from 'jose';
import { Provider, errors } from 'oidc-provider';

import { emit, exitWithParent, keepConsoleOffStdout, readAll, serverOptions } from './lib.mjs';

const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA'];

/** What was registered at the control endpoint: client_id -> client metadata. */
const clients = new Map();

async function main() {
  keepConsoleOffStdout();
  const options = serverOptions({
    'fetch-timeout': { type: 'string' },
    'initial-access-token': { type: 'string' },
    algs: { type: 'string' },
  });
  const algorithms = options.algs?.split(',') ?? ALGORITHMS;

  // The issuer holds the port, so the socket is opened before the provider is made.
  const server = http.createServer();
  server.listen(options.port, '127.0.0.1');
  await once(server, 'listening');
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = createProvider(issuer, options['fetch-timeout'], algorithms, options['initial-access-token']);

  server.on('request', route(provider));
  exitWithParent(options);
  emit({ issuer, token_endpoint: `${issuer}/token`, control: `${issuer}/control` });
}

function createProvider(issuer, fetchTimeout, algorithms, initialAccessToken) {
  const provider = new Provider(issuer, {
    adapter,
    fetch: (url, options) => fetchLoopback(url, withTimeout(options, fetchTimeout)),
    assertJwtClientAuthClaimsAndHeader: refuseForeignScope,
    clientAuthMethods: ['private_key_jwt'],
    enabledJWA: { clientAuthSigningAlgValues: algorithms },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      // Dynamic registration (RFC 7591), for whoever has this access token.
      registration: { enabled: Boolean(initialAccessToken), initialAccessToken },
    },
    ttl: { ClientCredentials: 300 },
  });
  provider.on('grant.success', (ctx) => {
    emit({ event: 'token_issued', client_id: ctx.oidc.client.clientId });
  });
  for (const name of ['grant.error', 'server_error']) {
    provider.on(name, (ctx, error) => emit({ event: 'refused', ...reason(error), jti: jti(ctx) }));
  }
  return provider;
}

/**
 * Fetches a client's JWKS. oidc-provider guards its fetches with a `dispatcher` that closes every
 * connection to a loopback address; here loopback is all there is, so that option is left out.
 */
async function fetchLoopback(url, { dispatcher, ...rest }) {
  try {
    const response = await fetch(url, rest);
    emit({ event: 'jwks_fetch', url: String(url), status: response.status });
    return response;
  } catch (error) {
    emit({ event: 'jwks_fetch', url: String(url), error: reason(error).detail });
    throw error;
  }
}

/** Its own limit, two and a half seconds, is soon over where the clock is a fast one. */
function withTimeout(options, milliseconds) {
  return milliseconds ? { ...options, signal: AbortSignal.timeout(Number(milliseconds)) } : options;
}

/** A client asks only for scopes that it was registered with; oidc-provider alone lets unknown ones pass. */
function refuseForeignScope(ctx, _claims, _header, client) {
  const allowed = clients.get(client.clientId).allowedScopes;
  const foreign = [...ctx.oidc.requestParamScopes].filter((scope) => !allowed.has(scope));
  if (foreign.length > 0) throw new errors.InvalidScope('requested scope is not allowed', foreign.join(' '));
}

/** oidc-provider tells the caller little; the reason is in `error_detail` and the chain of causes. */
function reason(error) {
  const parts = [];
  for (let cause = error; cause; cause = cause.cause) {
    for (const part of [cause.error_description, cause.error_detail, cause.message]) {
      if (part && !parts.includes(part)) parts.push(part);
    }
  }
  return { error: error.error ?? 'server_error', detail: parts.join(': ') };
}

/** Of the assertion that was refused, if there was one. */
function jti(ctx) {
  try {
    return decodeJwt(ctx.oidc.params.client_assertion).jti;
  } catch {
    return undefined;
  }
}

function route(provider) {
  const handle = provider.callback();
  return (request, response) => {
    if (request.method === 'POST' && request.url === '/control/clients') {
      register(provider, request, response);
    } else {
      handle(request, response);
    }
  };
}

async function register(provider, request, response) {
  let id;
  try {
    const { client_id, jwks_uri, alg, scope = '' } = JSON.parse(await readAll(request));
    id = client_id;
    clients.set(id, {
      allowedScopes: scopes(scope),
      metadata: {
        client_id,
        // A new name makes a new client of a known id: its cached JWKS is forgotten.
        client_name: `registration ${(registrations += 1)}`,
        jwks_uri,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: 'private_key_jwt',
        token_endpoint_auth_signing_alg: alg,
      },
    });
    await provider.Client.find(id);
    answer(response, 201, { client_id });
  } catch (error) {
    clients.delete(id);
    answer(response, 400, reason(error));
  }
}

function scopes(text = '') {
  return new Set(text.split(' ').filter(Boolean));
}

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

/** oidc-provider's storage: clients come from the control endpoint or from its own registration, everything else from memory. */
function adapter(model) {
  if (model === 'Client') {
    return {
      find: async (id) => clients.get(id)?.metadata,
      upsert: async (id, metadata) => void clients.set(id, { allowedScopes: scopes(metadata.scope), metadata }),
    };
  }
  const records = new Map();
  return {
    find: async (id) => records.get(id),
    upsert: async (id, payload) => void records.set(id, payload),
    destroy: async (id) => void records.delete(id),
  };
}

let registrations = 0;

await main();
