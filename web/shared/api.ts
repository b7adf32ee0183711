import createClient, { type Client } from 'openapi-fetch';
import type { components, paths } from './api-types';

export type Schemas = components['schemas'];
export type Api = Client<paths>;

/** A refusal of the API, or no answer of it, with what helps the reader and the support. */
export class ApiFailure extends Error {
  constructor(
    /** The stable code of the API; `unreachable` where there was no answer. */
    readonly code: string,
    message: string,
    /** 0 where there was no answer. */
    readonly status: number,
    readonly requestId: string | undefined,
    readonly retryable: boolean,
  ) {
    super(message);
  }
}

/** Milliseconds after which an answer is waited for no longer: more than any operation takes. */
const patienceMs = 60_000;

/** Sends a request. @throws {ApiFailure} where there is no answer, or none in time. */
async function send(request: Request): Promise<Response> {
  try {
    return await fetch(request, { signal: AbortSignal.timeout(patienceMs) });
  } catch (cause) {
    const isLate = cause instanceof DOMException && cause.name === 'TimeoutError';
    const message = isLate
      ? 'The service has not answered within a minute. Look whether it was done before you try again.'
      : 'The service cannot be reached. Is this device online?';
    throw Object.assign(new ApiFailure('unreachable', message, 0, undefined, true), { cause });
  }
}

/**
 * Gives a client of the API, whose requests fail with {@link ApiFailure} where there is no answer.
 *
 * @param headers those of every request, such as the bearer.
 */
export function apiClient(headers: Record<string, string> = {}): Api {
  return createClient<paths>({
    baseUrl: '/api/v1',
    headers,
    credentials: 'same-origin',
    redirect: 'error',
    fetch: send,
  });
}

/** What openapi-fetch gives of a request. */
interface Fetched<T> {
  readonly data?: T;
  readonly error?: unknown;
  readonly response: Response;
}

/**
 * Gives the answer to a request, undefined where it has no content.
 *
 * @throws {ApiFailure} for a refusal, and where there is no answer.
 */
export async function answerTo<T>(request: Promise<Fetched<T>>): Promise<T> {
  const { data, error, response } = await request;
  if (response.ok) return data as T;
  throw failureOf(error, response);
}

/** Reads the error of an answer; one that was not made by our API has another form, or none. */
export function failureOf(body: unknown, response: Response): ApiFailure {
  const { error, meta } = (typeof body === 'object' && body !== null ? body : {}) as Partial<Schemas['ErrorEnvelope']>;
  const requestId = meta?.request_id ?? response.headers.get('x-request-id') ?? undefined;
  const message = error?.message ?? `The service answered with the status ${response.status}.`;
  const retryable = error?.retryable ?? response.status >= 500;
  return new ApiFailure(error?.code ?? 'unknown', message, response.status, requestId, retryable);
}

/** Gives what was thrown as a failure that can be shown. */
export const asFailure = (thrown: unknown): ApiFailure =>
  thrown instanceof ApiFailure
    ? thrown
    : new ApiFailure('page_error', `This page has a fault: ${String(thrown)}`, 0, undefined, false);
