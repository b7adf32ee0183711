import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as sdk from '@aws-sdk/client-sesv2';
import { Logger } from '@nestjs/common';
import { register } from 'prom-client';
import { isKnownSesError, SesDenied, sesOperations, SesRefused, SesUnavailable, type SesOperation } from '@app/ses';
import { atOnce } from '../../test/support/turns';
import { SesWriter } from './ses-writer';

/** The errors of the API that the SDK was made of. */
const modelled = Object.values(sdk).flatMap((each) =>
  typeof each === 'function' && each.prototype instanceof sdk.SESv2ServiceException ? each.name : [],
);

/** HTTP status and name of each error, as the answers of AWS have them, and its outcome. */
const table: Record<string, [number, 'ours' | 'passing' | 'throttled' | 'name']> = {
  // The model of SES v2.
  AccountSuspendedException: [400, 'ours'],
  AlreadyExistsException: [400, 'ours'],
  BadRequestException: [400, 'name'],
  ConcurrentModificationException: [500, 'passing'],
  ConflictException: [409, 'passing'],
  InternalServiceErrorException: [500, 'passing'],
  InvalidNextTokenException: [400, 'passing'],
  LimitExceededException: [400, 'ours'],
  MailFromDomainNotVerifiedException: [400, 'ours'],
  MessageRejected: [400, 'ours'],
  NotFoundException: [404, 'ours'],
  SendingPausedException: [400, 'ours'],
  TooManyRequestsException: [429, 'throttled'],
  // Common to all services of AWS.
  AccessDenied: [403, 'ours'],
  AccessDeniedException: [403, 'ours'],
  ExpiredToken: [403, 'ours'],
  ExpiredTokenException: [403, 'ours'],
  IncompleteSignature: [400, 'ours'],
  InternalFailure: [500, 'passing'],
  InvalidAction: [400, 'ours'],
  InvalidClientTokenId: [403, 'ours'],
  InvalidParameterCombination: [400, 'ours'],
  InvalidParameterValue: [400, 'ours'],
  InvalidQueryParameter: [400, 'ours'],
  InvalidSignatureException: [403, 'ours'],
  MalformedHttpRequestException: [400, 'ours'],
  MalformedQueryString: [404, 'ours'],
  MissingAction: [400, 'ours'],
  MissingAuthenticationToken: [403, 'ours'],
  MissingParameter: [400, 'ours'],
  NotAuthorized: [400, 'ours'],
  OptInRequired: [403, 'ours'],
  RequestEntityTooLargeException: [413, 'ours'],
  RequestExpired: [400, 'ours'],
  RequestTimeoutException: [408, 'passing'],
  RequestTimeTooSkewed: [403, 'ours'],
  SerializationException: [400, 'ours'],
  ServiceUnavailable: [503, 'passing'],
  SignatureDoesNotMatch: [403, 'ours'],
  Throttling: [400, 'throttled'],
  ThrottlingException: [400, 'throttled'],
  ThrottledException: [400, 'throttled'],
  RequestLimitExceeded: [400, 'throttled'],
  UnknownOperationException: [404, 'ours'],
  UnrecognizedClientException: [403, 'ours'],
  ValidationError: [400, 'name'],
  ValidationException: [400, 'name'],
  // One that no release of today knows.
  PlanetNotAlignedException: [400, 'ours'],
};

const secret = 'User: arn:aws:iam::123456789012:user/mailer is not authorized';
const calls: Record<SesOperation, (ses: SesWriter, signal: AbortSignal) => Promise<unknown>> = {
  CreateEmailIdentity: (ses, signal) => ses.create('mail.acme.com', 'mdom_1', { signal }),
  GetEmailIdentity: (ses, signal) => ses.get('mail.acme.com', { signal }),
  ListEmailIdentities: (ses, signal) => ses.list({ signal }).next(),
  DeleteEmailIdentity: (ses, signal) => ses.delete('mail.acme.com', { signal }),
  PutEmailIdentityDkimSigningAttributes: (ses, signal) => ses.restartDkim('mail.acme.com', { signal }),
  PutEmailIdentityMailFromAttributes: (ses, signal) =>
    ses.setMailFrom('mail.acme.com', 'bounce.mail.acme.com', { signal }),
  TagResource: (ses, signal) => ses.adopt('mail.acme.com', '123456789012', { signal }),
};
/** Errors that are the answer to an operation. */
const expected = new Map<string, readonly SesOperation[]>([
  [
    'NotFoundException',
    [
      'GetEmailIdentity',
      'DeleteEmailIdentity',
      'PutEmailIdentityDkimSigningAttributes',
      'PutEmailIdentityMailFromAttributes',
      'TagResource',
    ],
  ],
]);
const takesAName: readonly SesOperation[] = ['CreateEmailIdentity', 'GetEmailIdentity', 'DeleteEmailIdentity'];

describe('P1: the errors of SES', () => {
  let server: Server;
  let ses: SesWriter;
  let answer: (response: ServerResponse) => void;
  const logged: string[] = [];

  beforeAll(async () => {
    process.env.AWS_ACCESS_KEY_ID ??= 'test';
    process.env.AWS_SECRET_ACCESS_KEY ??= 'test';
    const log = (...words: unknown[]) => logged.push(JSON.stringify(words));
    Logger.overrideLogger({ error: log, warn: log, log });
    server = createServer((request, response) => {
      request.resume().on('end', () => answer(response));
    });
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    const { port } = server.address() as AddressInfo;
    const endpoint = `http://127.0.0.1:${port}`;
    ses = new SesWriter({ region: 'eu-west-1', endpoint, timeoutMs: 2_000 }, atOnce);
  });
  afterAll(async () => {
    Logger.overrideLogger(false);
    ses.close();
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });
  beforeEach(() => (logged.length = 0));

  const answerWith = (status: number, type: string) => {
    answer = (response) => {
      // AlreadyExists leads to a look at what is there: the table is about the error itself.
      response.setHeader('x-amzn-RequestId', 'f00d').setHeader('x-amzn-ErrorType', type);
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ message: secret }));
    };
  };
  const alarms = async () => {
    const metric = register.getSingleMetric('sendmux_counterpart_alarms_total')!;
    return (await metric.get()).values.reduce((sum, { value }) => sum + value, 0);
  };

  it('are all in the table, whatever the SDK adds to its model', () => {
    expect(modelled.length).toBeGreaterThan(10);
    expect(modelled.filter((name) => !(name in table))).toEqual([]);
    expect(Object.keys(table).filter((name) => !isKnownSesError(name))).toEqual(['PlanetNotAlignedException']);
  });

  const cases = Object.entries(table).flatMap(([type, [status, outcome]]) =>
    sesOperations.map((operation): [string, SesOperation, number, string] => {
      if (expected.get(type)?.includes(operation)) return [type, operation, status, 'an answer'];
      return [type, operation, status, outcome === 'name' && !takesAName.includes(operation) ? 'ours' : outcome];
    }),
  );
  it.each(cases)('%s of %s (%i) is sorted: %s', async (type, operation, status, outcome) => {
    answerWith(status, type);
    const before = await alarms();
    const signal = AbortSignal.timeout(outcome === 'throttled' ? 50 : 5_000);
    const error = await calls[operation](ses, signal).then(
      () => undefined,
      (thrown: Error) => thrown,
    );
    const wanted = { name: SesRefused, ours: SesDenied, passing: SesUnavailable, throttled: SesUnavailable }[outcome];
    if (outcome === 'an answer') expect(error).toBeUndefined();
    else expect(error).toBeInstanceOf(wanted);
    expect((await alarms()) - before).toBe(outcome === 'ours' ? 1 : 0);
    // The text of AWS is nowhere but in the log.
    expect(`${error?.name} ${error?.message}`).not.toMatch(/arn:|123456789012|mailer|authorized/);
    if (outcome === 'name' || outcome === 'passing') expect(logged.join()).toContain(secret);
  });

  it('are logged once a minute for each reason, with the text of AWS', async () => {
    const quiet = new SesWriter({ region: 'eu-west-1', endpoint: addressOf(server), timeoutMs: 2_000 }, atOnce);
    answerWith(403, 'AccessDeniedException');
    for (let call = 0; call < 3; call++) await expect(quiet.get('mail.acme.com')).rejects.toThrow(SesDenied);
    expect(logged).toHaveLength(1);
    expect(logged[0]).toContain(secret);
    answerWith(400, 'LimitExceededException');
    await expect(quiet.create('mail.acme.com', 'mdom_1')).rejects.toThrow(SesDenied);
    expect(logged).toHaveLength(2);
    quiet.close();
  });
});

const addressOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
