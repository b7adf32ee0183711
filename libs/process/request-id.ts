import type { IncomingMessage } from 'node:http';
import { newId } from '@app/runtime';

/** The form of a request id. A caller's own id is used when it has this form. */
const requestIdForm = /^[\w.:-]{8,128}$/;

/**
 * Gives the id of a request: the caller's `X-Request-Id`, or a new `req_…`. It is in the answer, in every log line and
 * in the metadata of every event that the request leads to.
 */
export function requestId(request: IncomingMessage): string {
  const known = requestIds.get(request);
  if (known) return known;
  const given = request.headers['x-request-id'];
  const usable = typeof given === 'string' && requestIdForm.test(given) && withoutKeys(given) === given;
  const id = usable ? given : newId('req');
  requestIds.set(request, id);
  return id;
}

/** Keeps the id of each request, since Fastify and the logger both ask for it and must get the same. */
const requestIds = new WeakMap<IncomingMessage, string>();

/**
 * Hides what has an email address in a URL, as a part of its path or its query: who asks whether an address can be had
 * puts it there, and a log cannot be erased like a table.
 */
export const withoutAddresses = (url: string): string =>
  url.replace(/[^/?&=#]+/g, (part) => (/@|%40|%2540/i.test(part) ? '[address]' : part));

/**
 * Hides API keys, and secrets of webhooks, in a text. They do not belong in a URL or another header, but callers put
 * them there, and they must not reach logs or answers.
 */
export const withoutKeys = (text: string): string =>
  text.replace(/smx_[a-z]+_\w+/gi, 'smx_[hidden]').replace(/whsec_[\w%+/=-]+/gi, 'whsec_[hidden]');
