// Do the verifiers work, apart from Hallmark? Run with `npm test`.
//
// Generates keys, serves their JWKS on loopback, asks each authorization server for an access token and
// each library for a verdict; then shows that a tampered assertion, a replay and a foreign scope are refused.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { SignJWT, exportJWK, generateKeyPair } from 'jose';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const PYTHON = `${HERE}.venv/bin/python`;
const SERVERS = {
  'oidc-provider': { command: process.execPath, script: 'oidc-provider.mjs', algs: ['RS384', 'ES384', 'PS256', 'EdDSA'] },
  authlib: { command: PYTHON, script: 'authlib_server.py', algs: ['RS384', 'ES384', 'RS256', 'ES256'] },
};
const LIBRARIES = {
  jose: { command: process.execPath, script: 'jose-verify.mjs' },
  pyjwt: { command: PYTHON, script: 'pyjwt_verify.py' },
};

const keys = {};
const jwksServer = http.createServer((request, response) => {
  const { jwk } = keys[request.url.slice(1)];
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ keys: [jwk] }));
});

before(async () => {
  jwksServer.listen(0, '127.0.0.1');
  await once(jwksServer, 'listening');
  for (const alg of new Set(Object.values(SERVERS).flatMap(({ algs }) => algs))) {
    const { publicKey, privateKey } = await generateKeyPair(alg);
    keys[alg] = { privateKey, jwk: { ...(await exportJWK(publicKey)), kid: `key-${alg}`, use: 'sig', alg } };
  }
});

after(() => jwksServer.close());

for (const [name, { command, script, algs }] of Object.entries(SERVERS)) {
  test(`${name} issues access tokens, and refuses what it should`, async () => {
    const server = spawn(command, [script, '--watch-stdin'], { cwd: HERE, stdio: ['pipe', 'pipe', 'ignore'] });
    const lines = createInterface(server.stdout)[Symbol.asyncIterator]();
    const next = async () => JSON.parse((await lines.next()).value);
    const { issuer, token_endpoint, control } = await next();
    assert.match(issuer, /^http:\/\/127\.0\.0\.1:\d+$/);

    for (const alg of algs) {
      const client_id = `client-${alg}`;
      const url = jwksUrl(alg);
      const registered = await post(`${control}/clients`, JSON.stringify({ client_id, jwks_uri: url, alg, scope: 'a b' }));
      assert.equal(registered.status, 201);

      const good = await assertion(alg, token_endpoint);
      const granted = await requestToken(token_endpoint, good, 'b');
      assert.equal(granted.status, 200, JSON.stringify(granted.body));
      assert.ok(granted.body.access_token);
      assert.deepEqual(await next(), { event: 'jwks_fetch', url, status: 200 });
      assert.deepEqual(await next(), { event: 'token_issued', client_id });

      const refusals = {
        replayed: await requestToken(token_endpoint, good, 'b'),
        tampered: await requestToken(token_endpoint, tamper(await assertion(alg, token_endpoint)), 'b'),
        misdirected: await requestToken(token_endpoint, await assertion(alg, 'http://127.0.0.1:1/token'), 'b'),
        greedy: await requestToken(token_endpoint, await assertion(alg, token_endpoint), 'a c'),
      };
      for (const [what, { status, body }] of Object.entries(refusals)) {
        assert.ok(status === 400 || status === 401, `${what}: ${status}`);
        let event = await next();
        if (event.event === 'jwks_fetch') event = await next();
        assert.equal(event.event, 'refused', what);
        assert.equal(event.error, body.error, what);
        assert.ok(event.detail, `${what} has no reason`);
      }
    }

    server.stdin.end();
    assert.equal((await once(server, 'exit'))[0], 0);
  });
}

for (const [name, { command, script }] of Object.entries(LIBRARIES)) {
  for (const alg of ['RS384', 'ES384']) {
    test(`${name} verifies ${alg}, and refuses a tampered assertion`, async () => {
      const audience = 'http://127.0.0.1:1/token';
      const args = [script, '--jwks', jwksUrl(alg), '--audience', audience, '--issuer', `client-${alg}`];
      const good = await assertion(alg, audience);

      const accepted = await verdict(command, args, good);
      assert.equal(accepted.code, 0, accepted.error);
      assert.equal(accepted.header.kid, `key-${alg}`);
      assert.equal(accepted.payload.aud, audience);

      const refused = await verdict(command, args, tamper(good));
      assert.deepEqual([refused.code, refused.ok], [1, false]);
    });
  }
}

function assertion(alg, audience) {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ jti: crypto.randomUUID() })
    .setProtectedHeader({ alg, kid: `key-${alg}`, typ: 'JWT' })
    .setIssuer(`client-${alg}`)
    .setSubject(`client-${alg}`)
    .setAudience(audience)
    .setIssuedAt(now - 5)
    .setExpirationTime(now + 290)
    .sign(keys[alg].privateKey);
}

/** Changes one byte in the middle of the signature. */
function tamper(jws) {
  const [header, payload, signature] = jws.split('.');
  const bytes = Buffer.from(signature, 'base64url');
  bytes[20] ^= 1;
  return [header, payload, bytes.toString('base64url')].join('.');
}

function requestToken(endpoint, client_assertion, scope) {
  return post(endpoint, new URLSearchParams({
    grant_type: 'client_credentials',
    scope,
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion,
  }));
}

async function post(url, body) {
  const headers = typeof body === 'string' ? { 'content-type': 'application/json' } : {};
  const response = await fetch(url, { method: 'POST', body, headers });
  return { status: response.status, body: await response.json() };
}

async function verdict(command, args, input) {
  const child = spawn(command, args, { cwd: HERE, stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(input);
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  const code = child.exitCode ?? (await once(child, 'exit'))[0];
  return { code, ...JSON.parse(text) };
}

function jwksUrl(alg) {
  return `http://127.0.0.1:${jwksServer.address().port}/${alg}`;
}
