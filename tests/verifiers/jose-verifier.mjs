// A verifier that lives long: npm's jose, which keeps the key sets that it fetched. README.md has the contract.

import { once } from 'node:events';
import http from 'node:http';

import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose';

import { emit, exitWithParent, keepConsoleOffStdout, readAll, serverOptions } from './lib.mjs';

/** As long as Hallmark's longest `max-age`, and an unknown `kid` does not shorten it: the strictest that obeys. */
const KEEP_SET = 300_000;

/** The clock may be a fast one, and then a fetch seems to take long. */
const FETCH_TIMEOUT = 60_000;

/** One for each key set and cache: when it was fetched last, and the set itself. */
const caches = new Map();

async function main() {
  keepConsoleOffStdout();
  const options = serverOptions();
  const server = http.createServer(answer);
  server.listen(options.port, '127.0.0.1');
  await once(server, 'listening');
  exitWithParent(options);
  emit({ verify: `http://127.0.0.1:${server.address().port}/verify` });
}

async function answer(request, response) {
  const asked = JSON.parse(await readAll(request));
  const cache = cacheOf(asked);
  const verdict = await verify(asked, cache);
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ ...verdict, now: Date.now(), fetched: cache.fetched, kids: kids(cache) }));
}

async function verify({ assertion, audience, issuer }, { keySet }) {
  try {
    await jwtVerify(assertion, keySet, {
      audience,
      issuer,
      subject: issuer,
      requiredClaims: ['iat', 'exp', 'jti'],
    });
    return { ok: true };
  } catch (error) {
    return { ok: false, code: error.code ?? error.name, error: error.message };
  }
}

function cacheOf({ jwks, cache = 0 }) {
  const name = `${cache} ${jwks}`;
  if (!caches.has(name)) caches.set(name, newCache(jwks));
  return caches.get(name);
}

function newCache(jwks) {
  const cache = { fetched: null };
  cache.keySet = createRemoteJWKSet(new URL(jwks), {
    cacheMaxAge: KEEP_SET,
    cooldownDuration: KEEP_SET,
    timeoutDuration: FETCH_TIMEOUT,
    [customFetch]: async (url, options) => {
      const response = await fetch(url, options);
      if (response.ok) cache.fetched = Date.now();
      return response;
    },
  });
  return cache;
}

function kids({ keySet }) {
  return (keySet.jwks()?.keys ?? []).map(({ kid }) => kid);
}

await main();
