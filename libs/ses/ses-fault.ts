/** Sorts the errors of SES: the customer's doing, ours, or passing. */

/** The operations of SES v2 that this product calls. */
export const sesOperations = [
  'CreateEmailIdentity',
  'GetEmailIdentity',
  'ListEmailIdentities',
  'DeleteEmailIdentity',
  'PutEmailIdentityDkimSigningAttributes',
  'PutEmailIdentityMailFromAttributes',
  'TagResource',
  'PutEmailIdentityConfigurationSetAttributes',
  'CreateTenant',
  'GetTenant',
  'DeleteTenant',
  'ListTenants',
  'ListResourceTenants',
  'CreateTenantResourceAssociation',
  'DeleteTenantResourceAssociation',
  'GetAccount',
] as const;
export type SesOperation = (typeof sesOperations)[number];

/**
 * `name`: SES does not accept the domain's name, which its customer has chosen. `ours`: SES refuses what this
 * installation asks, whatever the name: its credentials, permissions, quotas, or its account. `throttled`: SES answers
 * when it is asked more slowly. `passing`: asking again may help.
 */
export type SesFault = 'name' | 'ours' | 'throttled' | 'passing';

/**
 * Errors by their names, without the ending `Exception` that only some services write. `input`: SES does not accept the
 * input. Sources: the errors of the SES API v2, and "Common Errors" of its reference.
 */
const errors = {
  input: ['BadRequest', 'Validation', 'ValidationError'],
  throttled: [
    'BandwidthLimitExceeded',
    'PriorRequestNotComplete',
    'RequestLimitExceeded',
    'RequestThrottled',
    'SlowDown',
    'Throttled',
    'Throttling',
    'TooManyRequests',
  ],
  passing: [
    'ConcurrentModification',
    'Conflict',
    'InternalError',
    'InternalFailure',
    'InternalServerError',
    'InternalServiceError',
    'InvalidNextToken',
    'RequestTimeout',
    'ServiceUnavailable',
  ],
  ours: [
    // The account, and what it may have.
    'AccountSuspended',
    'LimitExceeded',
    'MailFromDomainNotVerified',
    'MessageRejected',
    'OptInRequired',
    'SendingPaused',
    'ServiceQuotaExceeded',
    'SubscriptionRequired',
    // Credentials and permissions; the last two are of the SDK, which has then asked nobody.
    'AccessDenied',
    'AuthFailure',
    'Blocked',
    'ExpiredToken',
    'IncompleteSignature',
    'InvalidAccessKeyId',
    'InvalidClientTokenId',
    'InvalidSignature',
    'InvalidToken',
    'MissingAuthenticationToken',
    'NotAuthorized',
    'SignatureDoesNotMatch',
    'Unauthorized',
    'UnauthorizedOperation',
    'UnrecognizedClient',
    'CredentialsProviderError',
    'TokenProviderError',
    // The clock, and the form of the requests that this release makes.
    'InvalidAction',
    'InvalidParameterCombination',
    'InvalidParameterValue',
    'InvalidQueryParameter',
    'MalformedHttpRequest',
    'MalformedInput',
    'MalformedQueryString',
    'MissingAction',
    'MissingParameter',
    'RequestEntityTooLarge',
    'RequestExpired',
    'RequestInTheFuture',
    'RequestTimeTooSkewed',
    'Serialization',
    'UnknownOperation',
    // Where an operation expects them, they are an answer. Elsewhere SES has something else than we think.
    'AlreadyExists',
    'NotFound',
  ],
} as const;

const faults: ReadonlyMap<string, keyof typeof errors> = new Map(
  (Object.keys(errors) as (keyof typeof errors)[]).flatMap((fault) =>
    errors[fault].map((name): [string, keyof typeof errors] => [name, fault]),
  ),
);

/** Operations in which the name is all that a customer can have caused. The others take names that SES has accepted. */
const takesAName: ReadonlySet<SesOperation> = new Set([
  'CreateEmailIdentity',
  'GetEmailIdentity',
  'DeleteEmailIdentity',
]);

const known = (name: string) => faults.get(name.replace(/Exception$/, ''));

/** Whether this release knows an error of that name. */
export const isKnownSesError = (name: string): boolean => known(name) !== undefined;

/**
 * Sorts an error of SES by its name and HTTP status. One that this release does not know is `ours` when SES says that
 * the request is at fault: no customer can mend it, and an operator is told.
 *
 * @param httpStatus 0 for an error of the SDK, which has not asked.
 */
export function sesFault(name: string, httpStatus: number, operation: SesOperation): SesFault {
  const fault = known(name);
  if (fault === 'throttled' || httpStatus === 429) return 'throttled';
  if (httpStatus >= 500) return 'passing';
  if (fault === 'input') return takesAName.has(operation) ? 'name' : 'ours';
  return fault ?? (httpStatus >= 400 ? 'ours' : 'passing');
}
