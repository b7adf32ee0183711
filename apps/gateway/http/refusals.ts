import type { Refuse, RequestFault } from '@app/process';
import { ApiError } from './api-error';

/** The errors of requests that no route sees, with the status where no error code has it for its own. */
const errors: Record<RequestFault, { readonly error: ApiError; readonly status?: number }> = {
  not_http: { error: new ApiError('invalid_parameter', 'This is not an HTTP request.') },
  unknown_method: { error: new ApiError('method_not_allowed', 'There is no such method here.'), status: 501 },
  head_too_large: { error: new ApiError('invalid_parameter', 'The head of the request is too large.'), status: 431 },
  too_slow: { error: new ApiError('request_timeout', 'The request did not arrive whole within 30 seconds.') },
  host: {
    error: new ApiError('invalid_parameter', 'Send one Host header, with the name of this server.', { param: 'Host' }),
  },
  repeated_header: {
    error: new ApiError('invalid_parameter', 'Authorization, Content-Type and Idempotency-Key may be sent once only.'),
  },
  expectation: {
    error: new ApiError('invalid_parameter', 'The only expectation that is met is 100-continue.', { param: 'Expect' }),
    status: 417,
  },
  path: { error: new ApiError('not_found', 'There is nothing at this path.') },
  stopping: {
    error: new ApiError('service_unavailable', 'This server is about to stop. Try again.', { retryAfter: 1 }),
  },
};

/** Makes the function that answers what no route sees in the envelope of all errors. */
export const refuseFor =
  (publicUrl: string): Refuse =>
  (fault, requestId) => {
    const { error, status = error.status } = errors[fault];
    return { status, headers: error.headers(), body: error.envelope(requestId, publicUrl) };
  };
