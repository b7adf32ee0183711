import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as sdk from '@aws-sdk/client-sesv2';
import { Logger } from '@nestjs/common';
import { register } from 'prom-client';
import {
  isKnownSesError,
  SesDenied,
  sesOperations,
  SesRefused,
  SesUnavailable,
  type SesIdentity,
  type SesOperation,
} from '@app/ses';
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
  PutEmailIdentityConfigurationSetAttributes: (ses, signal) => ses.joinTenant(identity, 'team_1', { signal }),
  CreateTenant: (ses, signal) => ses.joinTenant(identity, 'team_1', { signal }),
  GetTenant: (ses, signal) => ses.joinTenant(identity, 'team_1', { signal }),
  DeleteTenant: (ses, signal) => ses.deleteTenant('team_1', { signal }),
  ListTenants: (ses, signal) => ses.delete('mail.acme.com', { signal }),
  ListResourceTenants: (ses, signal) => ses.delete('mail.acme.com', { signal }),
  CreateTenantResourceAssociation: (ses, signal) => ses.joinTenant(identity, 'team_1', { signal }),
  DeleteTenantResourceAssociation: (ses, signal) => ses.delete('mail.acme.com', { signal }),
  GetAccount: (ses, signal) => ses.sending({ signal }),
};
const identity = { name: 'mail.acme.com', domainId: 'mdom_1', configurationSet: null } as SesIdentity;

/** The paths of the operations that others precede, which are answered well. */
const paths: Partial<Record<SesOperation, RegExp>> = {
  PutEmailIdentityConfigurationSetAttributes: /\/configuration-set$/,
  CreateTenant: /\/tenants$/,
  GetTenant: /\/tenants\/get$/,
  DeleteTenant: /\/tenants\/delete$/,
  ListTenants: /\/email\/tenants\/list$/,
  ListResourceTenants: /\/resources\/tenants\/list$/,
  CreateTenantResourceAssociation: /\/tenants\/resources$/,
  DeleteTenantResourceAssociation: /\/tenants\/resources\/delete$/,
};
const TenantArn = 'arn:aws:ses:eu-west-1:123456789012:tenant/team_1/tn-1';
const well = { Tenant: { TenantArn }, Tenants: [{ TenantArn }], ResourceTenants: [{ TenantName: 'team_1' }] };

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
      'DeleteTenant',
      'ListResourceTenants',
      'DeleteTenantResourceAssociation',
    ],
  ],
  ['AlreadyExistsException', ['CreateTenant', 'CreateTenantResourceAssociation']],
]);
/** Operations whose NotFoundException says that somebody else has changed something since the call before. */
const changedMeanwhile: readonly SesOperation[] = ['GetTenant', 'CreateTenantResourceAssociation'];
const takesAName: readonly SesOperation[] = ['CreateEmailIdentity', 'GetEmailIdentity', 'DeleteEmailIdentity'];

describe('P1: the errors of SES', () => {
  let server: Server;
  let endpoint: string;
  let answer: (response: ServerResponse, url: string) => void;
  const logged: string[] = [];

  beforeAll(async () => {
    process.env.AWS_ACCESS_KEY_ID ??= 'test';
    process.env.AWS_SECRET_ACCESS_KEY ??= 'test';
    const log = (...words: unknown[]) => logged.push(JSON.stringify(words));
    Logger.overrideLogger({ error: log, warn: log, log });
    server = createServer((request, response) => {
      request.resume().on('end', () => answer(response, request.url!));
    });
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    endpoint = addressOf(server);
  });
  afterAll(async () => {
    Logger.overrideLogger(false);
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });
  beforeEach(() => (logged.length = 0));

  const answerWith = (status: number, type: string, operation?: SesOperation) => {
    const path = operation && paths[operation];
    answer = (response, url) => {
      response.setHeader('x-amzn-RequestId', 'f00d').setHeader('content-type', 'application/json');
      // Only of a tenant that is there already the ARN is asked for.
      if (operation === 'GetTenant' && paths.CreateTenant!.test(url))
        response.setHeader('x-amzn-ErrorType', 'AlreadyExistsException').writeHead(400).end('{}');
      else if (path && !path.test(url)) response.end(JSON.stringify({ ...well, TenantArn }));
      else {
        // AlreadyExists leads to a look at what is there: the table is about the error itself.
        response
          .setHeader('x-amzn-ErrorType', type)
          .writeHead(status)
          .end(JSON.stringify({ message: secret }));
      }
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
      if (type === 'NotFoundException' && changedMeanwhile.includes(operation))
        return [type, operation, status, 'changed meanwhile'];
      return [type, operation, status, outcome === 'name' && !takesAName.includes(operation) ? 'ours' : outcome];
    }),
  );
  it.each(cases)('%s of %s (%i) is sorted: %s', async (type, operation, status, outcome) => {
    answerWith(status, type, operation);
    const before = await alarms();
    const signal = AbortSignal.timeout(outcome === 'throttled' ? 50 : 5_000);
    // What it knows of tenants is that of no other case.
    const tenantConfigurationSet = operation in paths ? 'customers' : undefined;
    const own = new SesWriter({ region: 'eu-west-1', endpoint, timeoutMs: 2_000, tenantConfigurationSet }, atOnce);
    const error = await calls[operation](own, signal).then(
      () => undefined,
      (thrown: Error) => thrown,
    );
    own.close();
    const wanted = {
      name: SesRefused,
      ours: SesDenied,
      passing: SesUnavailable,
      throttled: SesUnavailable,
      'changed meanwhile': SesUnavailable,
    }[outcome];
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
