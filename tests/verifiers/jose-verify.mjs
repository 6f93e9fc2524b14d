// Verifies one assertion, read from standard input, with npm's jose. README.md has the contract.

import { parseArgs } from 'node:util';

import { createRemoteJWKSet, jwtVerify } from 'jose';

import { emit, readAll } from './lib.mjs';

const option = { type: 'string' };
const { values } = parseArgs({ options: { jwks: option, audience: option, issuer: option } });

try {
  const { audience, issuer } = values;
  const assertion = (await readAll(process.stdin)).trim();
  const { protectedHeader, payload } = await jwtVerify(assertion, createRemoteJWKSet(new URL(values.jwks)), {
    audience,
    issuer,
    subject: issuer,
    requiredClaims: ['iat', 'exp', 'jti'],
  });
  emit({ ok: true, header: protectedHeader, payload });
} catch (error) {
  emit({ ok: false, error: `${error.code ?? error.name}: ${error.message}` });
  process.exitCode = 1;
}
