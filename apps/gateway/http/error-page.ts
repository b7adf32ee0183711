import type { FastifyInstance } from 'fastify';
import { errorCodes, errorPagePath } from './api-error';

const sections = Object.entries(errorCodes).map(
  ([code, { status, retryable, meaning }]) =>
    `<h2 id="${code}"><code>${code}</code></h2>\n<p>Status ${status}. ${meaning}</p>\n<p>${
      retryable
        ? 'The same request may succeed later.'
        : 'The same request fails again, unless its answer says otherwise.'
    }</p>`,
);

const page = `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><title>Sendmux domains API: errors</title></head>
<body>
<h1>Errors</h1>
<p>Every error answer has one of these codes in <code>error.code</code>. <code>error.message</code> says what is wrong
with this request; <code>error.retryable</code> whether the same request may succeed later, after the seconds in
<code>Retry-After</code> where the answer has that header. Give us <code>meta.request_id</code> when you ask for help.</p>
${sections.join('\n')}
</body>
</html>
`;

/** Serves the page that explains every error code, for people. */
export function serveErrorPage(fastify: FastifyInstance): void {
  fastify.get(errorPagePath, (_request, reply) => reply.type('text/html; charset=utf-8').send(page));
}
