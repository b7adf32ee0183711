import { withoutKeys } from '@app/runtime';

/** Every code of an error answer, with its HTTP status and whether the same request may succeed later. Stable. */
export const errorCodes = {
  missing_parameter: { status: 400, retryable: false, meaning: 'A required field is missing.' },
  invalid_parameter: { status: 400, retryable: false, meaning: 'A field, or the request itself, is malformed.' },
  unauthorized: { status: 401, retryable: false, meaning: 'No API key, or one that is unknown or revoked.' },
  insufficient_permissions: { status: 403, retryable: false, meaning: 'The key lacks the permission that is named.' },
  not_found: { status: 404, retryable: false, meaning: 'There is no such thing, or it belongs to another team.' },
  method_not_allowed: { status: 405, retryable: false, meaning: 'The path exists, but not with this method.' },
  conflict: { status: 409, retryable: false, meaning: 'The name is taken, or the state does not allow it.' },
  idempotency_conflict: {
    status: 409,
    retryable: false,
    meaning: 'The Idempotency-Key was used with another body, or its first request still runs.',
  },
  payload_too_large: { status: 413, retryable: false, meaning: 'The body is larger than 64 KiB.' },
  unsupported_media_type: { status: 415, retryable: false, meaning: 'The body is not application/json.' },
  validation_error: {
    status: 422,
    retryable: false,
    meaning: 'Well-formed, and not possible: such a hostname, address or provider is not to be had here.',
  },
  rate_limited: { status: 429, retryable: true, meaning: 'Too many requests with this key; wait for Retry-After.' },
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

interface Fault {
  readonly code: string;
  readonly param?: string;
  readonly message: string;
}

interface Details {
  /** The field, query parameter or header at fault. */
  readonly param?: string;
  /** Seconds, for the header `Retry-After`. */
  readonly retryAfter?: number;
  /** Where it differs from what the code says. */
  readonly retryable?: boolean;
  /** Every single fault, with a code finer than the error's. */
  readonly errors?: readonly Fault[];
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer that is an error. Thrown anywhere in the gateway; the filter makes the envelope. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly retryable: boolean;

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: Details = {},
  ) {
    super(message);
    this.status = errorCodes[code].status;
    this.retryable = details.retryable ?? errorCodes[code].retryable;
  }

  headers(): Record<string, string> {
    const { retryAfter, headers } = this.details;
    return { ...(retryAfter !== undefined && { 'retry-after': String(retryAfter) }), ...headers };
  }

  envelope(requestId: string): object {
    const { param, errors } = this.details;
    const fault = <Said extends { param?: string; message: string }>(said: Said): Said => ({
      ...said,
      message: withoutKeys(said.message),
      ...(said.param !== undefined && { param: withoutKeys(said.param) }),
    });
    return {
      ok: false,
      error: {
        ...fault({ code: this.code, message: this.message, ...(param !== undefined && { param }) }),
        retryable: this.retryable,
        ...(errors && { errors: errors.map(fault) }),
      },
      meta: { request_id: requestId },
    };
  }
}
