import type { FastifyInstance } from 'fastify';

/**
 * Headers of every answer of the gateway, beside those of every process (`libs/process`). An answer is data: no browser
 * may run, frame or embed it. `Strict-Transport-Security` is for whoever ends TLS (RFC 6797 section 7.2).
 */
export const securityHeaders = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
};

/** The page that shows the OpenAPI document has its scripts in files, and its styles and pictures in the text. */
const policyOfDocs =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Lets the browser run the page below the path, with its own files only. */
export function allowScriptsBelow(fastify: FastifyInstance, path: string): void {
  fastify.addHook('onRequest', ({ url }, reply, done) => {
    if (url === path || url.startsWith(`${path}/`)) void reply.header('content-security-policy', policyOfDocs);
    done();
  });
}
