import { withoutKeys } from '@app/process';

/**
 * The code of every error answer, with its HTTP status and whether the same request may succeed later. The codes are
 * stable.
 */
export const errorCodes = {
  missing_parameter: { status: 400, retryable: false, meaning: 'A required field is missing.' },
  invalid_parameter: { status: 400, retryable: false, meaning: 'A field, or the request itself, is malformed.' },
  authentication_required: { status: 401, retryable: false, meaning: 'No API key, or one that is unknown or revoked.' },
  insufficient_permissions: { status: 403, retryable: false, meaning: 'The key lacks the permission that is named.' },
  not_found: { status: 404, retryable: false, meaning: 'There is no such thing, or it belongs to another team.' },
  method_not_allowed: { status: 405, retryable: false, meaning: 'The path exists, but not with this method.' },
  request_timeout: { status: 408, retryable: true, meaning: 'The request did not arrive whole within 30 seconds.' },
  conflict: { status: 409, retryable: false, meaning: 'The name is taken, or the state does not allow it.' },
  idempotency_conflict: {
    status: 409,
    retryable: false,
    meaning: 'The Idempotency-Key was used with another body, or its first request still runs.',
  },
  limit_exceeded: {
    status: 409,
    retryable: false,
    meaning: 'Your team has as many as it may have; `current` and `limit` say how many. Delete one, or ask support.',
  },
  precondition_failed: { status: 412, retryable: false, meaning: 'If-Match or If-None-Match does not hold.' },
  payload_too_large: { status: 413, retryable: false, meaning: 'The body is larger than 64 KiB.' },
  unsupported_media_type: { status: 415, retryable: false, meaning: 'The body is not application/json.' },
  validation_error: {
    status: 422,
    retryable: false,
    meaning: 'Well-formed, and not possible: such a hostname, address or provider is not to be had here.',
  },
  rate_limit_exceeded: {
    status: 429,
    retryable: true,
    meaning: 'Too many requests with this key; wait for Retry-After.',
  },
  internal_error: { status: 500, retryable: true, meaning: 'A fault of ours; the request id helps us to find it.' },
  provisioning_failed: {
    status: 502,
    retryable: false,
    meaning:
      'The mail server or Amazon SES refused the domain. All of it is being rolled back, and then the name is free.',
  },
  service_unavailable: { status: 503, retryable: true, meaning: 'It cannot be done just now; wait for Retry-After.' },
  provisioning_timeout: {
    status: 504,
    retryable: true,
    meaning: 'The domain was not provisioned in time. All of it is being rolled back, and then the name is free.',
  },
} as const;

export type ErrorCode = keyof typeof errorCodes;

/** The path of the page that explains every error code. */
export const errorPagePath = '/api/v1/errors';

interface Fault {
  readonly code: string;
  /** The field, query parameter or header at fault; `body` or `request` where it is the whole of that. */
  readonly param: string;
  readonly message: string;
}

interface Details {
  /** The field, query parameter or header at fault; `body` or `request` where it is the whole of that. */
  readonly param?: string;
  /** Seconds, for the header `Retry-After`. */
  readonly retryAfter?: number;
  /** Overrides what `errorCodes` has for the code. */
  readonly retryable?: boolean;
  /** Each single fault, with a code that is more specific than the error's. */
  readonly errors?: readonly Fault[];
  readonly headers?: Readonly<Record<string, string>>;
  /** How many there are and may be, of `limit_exceeded`. */
  readonly count?: { readonly current: number; readonly limit: number };
}

/** The most that an error answer has: faults, and UTF-16 code units of each of their texts. */
const errorsLimit = 20;
const messageLimit = 1_000;
const paramLimit = 100;

/** Hides keys, and cuts what is too long, at the end of a character. */
function bounded(text: string, limit: number): string {
  const said = withoutKeys(text);
  return said.length <= limit ? said : `${said.slice(0, limit - 1).replace(/\p{Surrogate}$/u, '')}…`;
}

/** Ends a request with an error answer. `ErrorFilter` turns it into the envelope. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly retryable: boolean;
  /** What is at fault; never undefined where the request is malformed or impossible (400, 422). */
  readonly param: string | undefined;
  /** The single faults; where there is a `param`, one of them is its. */
  readonly errors: readonly Fault[] | undefined;

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: Details = {},
  ) {
    super(message);
    this.status = errorCodes[code].status;
    this.retryable = details.retryable ?? errorCodes[code].retryable;
    const { errors } = details;
    const isOfRequest = this.status === 400 || this.status === 422;
    const param = details.param ?? (isOfRequest ? (errors?.[0]?.param ?? 'request') : undefined);
    this.param = param;
    this.errors =
      param === undefined || errors?.some((fault) => fault.param === param)
        ? errors
        : [{ code, param, message }, ...(errors ?? [])];
  }

  headers(): Record<string, string> {
    const { retryAfter, headers } = this.details;
    return { ...(retryAfter !== undefined && { 'retry-after': String(retryAfter) }), ...headers };
  }

  /**
   * Makes the body of the answer. It is bounded, whatever a request has put into its names.
   *
   * @param publicUrl under which customers reach the gateway, without a slash at its end.
   */
  envelope(requestId: string, publicUrl: string): object {
    const { param, errors } = this;
    const { count } = this.details;
    const fault = <Said extends { param?: string; message: string }>(said: Said): Said => ({
      ...said,
      message: bounded(said.message, messageLimit),
      ...(said.param !== undefined && { param: bounded(said.param, paramLimit) }),
    });
    return {
      ok: false,
      error: {
        ...fault({ code: this.code, message: this.message, ...(param !== undefined && { param }) }),
        retryable: this.retryable,
        ...count,
        doc_url: `${publicUrl}${errorPagePath}#${this.code}`,
        ...(errors && {
          errors: errors
            .slice(0, errorsLimit)
            .map(fault)
            .map(({ code, param: field, message }) => ({ code, field, param: field, message })),
        }),
      },
      meta: { request_id: requestId },
    };
  }
}
