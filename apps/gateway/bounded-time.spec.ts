import type { FastifyReply } from 'fastify';
import type { ExecutionContext } from '@nestjs/common';
import type { OpenAPIObject } from '@nestjs/swagger';
import { plainToInstance } from 'class-transformer';
import { validateSync } from 'class-validator';
import { domainEvent, initialState } from '@app/mail-domain';
import { answerOf, Answers, dnsPlan, explain, judge, planWarnings, preflight, publishedIn } from '@app/mail-records';
import {
  allowedMs,
  itIsLinear,
  octetsOf,
  ofText,
  outcomeOf,
  textOf,
  textsOf,
  type Reader,
} from '../../test/support/bounded-time';
import { sample } from '../../test/support/sample';
import { CreateKeyRequest, keyIdForm, RotateKeyRequest } from './accounts/keys.dto';
import { InviteOwnerRequest } from './accounts/owners.dto';
import { AddDomainRequest, domainIdForm } from './domains/domain.dto';
import { AsOfQuery, presentEntry } from './domains/history.dto';
import { DomainHistory } from './domains/history.service';
import { presentOperations, presentPlan, presentPreflight, ZoneFileQuery } from './domains/plans.dto';
import { presentVerification } from './domains/verification.dto';
import { ApiError } from './http/api-error';
import { ApiKeys } from './http/api-key.guard';
import { ConsoleSessions } from './http/console-session';
import { SetupCallers } from './http/setup-link.guard';
import { SignInRequest } from './session/session.dto';
import { CreateSetupLinkRequest, SendSetupInstructionsRequest } from './setup/setup-links.dto';
import { SetupQuery } from './setup/setup.dto';
import { lastOfPageBefore, PageQuery } from './http/paging';
import { Preconditions } from './http/preconditions';
import { readJson } from './http/request-body';
import { methodsOf, noteRoutes } from './http/routes';
import { UnknownParametersGuard } from './http/unknown-parameters.guard';
import { IdempotencyKeys } from './idempotency/idempotency.service';
import { CreateMailboxRequest, UpdateMailboxRequest, presentNewMailbox } from './mailboxes/mailbox.dto';

/** An object with methods that are asked for nothing more than this. */
const stub = (methods: object): never => methods as never;

const noSession = stub({ resume: () => Promise.resolve(undefined) });
const sessions = new ConsoleSessions(noSession, 'https://app.example.com');
const apiKeys = new ApiKeys(stub({ authenticate: () => Promise.resolve(undefined) }), stub({}), stub({}), sessions);
const setupCallers = new SetupCallers(stub({ find: () => Promise.resolve(undefined) }), stub({}), stub({}));
const idempotency = new IdempotencyKeys(stub({ query: () => Promise.reject(new Error('no database')) }));
const history = new DomainHistory(stub({}), stub({ isOf: () => Promise.resolve(false) }));

const fastify = stub({
  server: {},
  addHook: (_hook: string, add: (route: object) => void) =>
    ['/api/v1/domains', '/api/v1/domains/:id', '/api/v1/domains/:id/verify', '/api/v1/docs/*'].forEach((url) =>
      add({ url, method: 'GET' }),
    ),
});
noteRoutes(fastify);

const operation = { parameters: [], requestBody: { content: { 'application/json': { schema: { properties: {} } } } } };
const unknown = new UnknownParametersGuard({
  paths: { '/domains': { post: operation } },
} as unknown as OpenAPIObject);
const requestWith = (query: object, body: object) =>
  ({
    switchToHttp: () => ({
      getRequest: () => ({ method: 'POST', routeOptions: { url: '/api/v1/domains' }, query, body }),
    }),
  }) as ExecutionContext;

/** Validates a body or a query that has the text in each of its fields, and in a list. */
const ofRequest = (type: new () => object, ...fields: string[]): Reader =>
  ofText((text) =>
    [text, [text], { [text]: text }].map((value) =>
      validateSync(plainToInstance(type, Object.fromEntries(fields.map((field) => [field, value])))),
    ),
  );

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};

/** What is shown of a zone that has the text at the domain's name, whole and in parts. */
const shownOf: Reader = (text, whole) => {
  // What makes it is held to the full length where it is.
  const length = whole / sample(4, 1);
  const txt = [textOf(text, length), ...textsOf(text, length)];
  const both = [...answerOf(txt), ...answerOf(txt)];
  const answers = new Answers().set('TXT', domain.name, both).set('TXT', `_dmarc.${domain.name}`, both);
  const octets = 4 * octetsOf(txt);
  const published = publishedIn([{ name: domain.name }, { name: `_dmarc.${domain.name}` }], answers);
  const run = () => {
    const operations = dnsPlan(domain, published);
    const assessment = judge(domain, answers, 'pending');
    const evidence = { answers, clues: new Answers(), ses: null, assessment };
    const explained = explain(domain, evidence).map((each) => ({ ...each, resolvers: [] }));
    return [
      presentOperations(operations, domain.name),
      presentPlan(domain.name, 'acme.com', operations, planWarnings(domain, published, operations)),
      presentPreflight(domain.name, 'acme.com', preflight(domain, published, 'acme.com', false)),
      presentVerification(
        { name: domain.name, status: 'pending', sesDkimStatus: 'pending' },
        assessment,
        explained,
        null,
        new Date(0),
      ),
    ];
  };
  return { octets, run, allowedMs: 3 * allowedMs };
};

const metadata = { actor: 'key_1', correlationId: 'req_1' };

/** Takes the tag and the status of an answer. */
const untouched = { header: () => untouched, status: () => untouched } as unknown as FastifyReply;

const readers: Record<string, Reader> = {
  'If-Match and If-None-Match': ofText((text) => [
    outcomeOf(() => new Preconditions('DELETE', text, text).demand(1)),
    new Preconditions('GET', undefined, text).isUnchanged(1, untouched),
  ]),
  Authorization: ofText((text) =>
    Promise.all(
      [text, `Bearer ${text}`, `Bearer${text}x `].map((authorization) =>
        outcomeOf(() => apiKeys.identify(stub({ headers: { authorization } }), stub({}))),
      ),
    ),
  ),
  'Authorization by a setup link': ofText((text) =>
    outcomeOf(() => setupCallers.identify(stub({ headers: { authorization: `Bearer ${text}` } }), stub({}))),
  ),
  Cookie: ofText((text) =>
    Promise.all(
      [text, `__Host-sendmux_session=${text}`, `${text}; __Host-sendmux_session=${text}`].map((cookie) =>
        outcomeOf(() => apiKeys.identify(stub({ method: 'POST', headers: { cookie, origin: text } }), stub({}))),
      ),
    ),
  ),
  'Idempotency-Key': ofText((key) => {
    const request = { team: 't', operation: 'addDomain', body: { key }, requestId: 'r', id: 'i', withinMs: 1 } as const;
    const create = () => Promise.resolve({ status: 201, body: {}, etag: null });
    return outcomeOf(() => idempotency.once({ ...request, key }, create));
  }),
  'a cursor': ofText((text) =>
    [text, Buffer.from(text).toString('base64url')].flatMap((cursor) =>
      [domainIdForm, keyIdForm, /^mdom_cl[0-9a-z]{25}\/[1-9]\d{0,8}$/].map((form) =>
        outcomeOf(() => lastOfPageBefore({ limit: 50, cursor }, form)),
      ),
    ),
  ),
  'a path': ofText((text) => [methodsOf(fastify, `/api/v1/domains/${text}`), methodsOf(fastify, text)]),
  'Content-Type and the body': ofText((text) =>
    Promise.all([
      outcomeOf(() => readJson(`application/json${text}`, Buffer.from('{}'))),
      outcomeOf(() => readJson('application/json', Buffer.from(text, 'latin1'))),
      outcomeOf(() => readJson('application/json', Buffer.from(JSON.stringify({ [text]: text })))),
    ]),
  ),
  'names of parameters': (text, length) => {
    const names = textsOf(text, length).concat(textOf(text, length));
    const many = Object.fromEntries(names.map((name) => [name, name]));
    const refused = () => unknown.canActivate(requestWith(many, many));
    const envelope = () => {
      try {
        return refused();
      } catch (error) {
        return (error as ApiError).envelope('req_1', 'http://x');
      }
    };
    return { octets: 4 * length, run: envelope };
  },
  'an error': ofText((text) =>
    new ApiError('invalid_parameter', text, {
      param: text,
      errors: [{ code: 'x', param: text, message: text }],
    }).envelope('req_1', 'http://x'),
  ),
  'the body of a domain': ofRequest(AddDomainRequest, 'domain'),
  'the body of a mailbox': ofRequest(
    CreateMailboxRequest,
    'address',
    'email',
    'display_name',
    'send_scope',
    'outbound_provider',
  ),
  'the change of a mailbox': ofRequest(UpdateMailboxRequest, 'display_name', 'send_scope', 'outbound_provider'),
  'the body of a key': ofRequest(CreateKeyRequest, 'name', 'role', 'permissions'),
  'a rotation': ofRequest(RotateKeyRequest, 'overlap_seconds'),
  'an invitation': ofRequest(InviteOwnerRequest, 'email'),
  'a setup link': ofRequest(CreateSetupLinkRequest, 'expires_in_days'),
  'setup instructions': ofRequest(SendSetupInstructionsRequest, 'email'),
  'a setup': ofRequest(SetupQuery, 'plan'),
  'a sign-in': ofRequest(SignInRequest, 'api_key'),
  'a page': ofRequest(PageQuery, 'limit', 'cursor'),
  'a format': ofRequest(ZoneFileQuery, 'format'),
  'a time': ofText((text) =>
    Promise.all([
      outcomeOf(() => history.at('mdom_1', 'team_1', text)),
      outcomeOf(() => history.at(text, 'team_1', '2026-03-01')),
      outcomeOf(() => validateSync(plainToInstance(AsOfQuery, { as_of: text }))),
    ]),
  ),
  'what a zone has': shownOf,
  'an entry of the history': ofText((text) => {
    const recorded = {
      stream: 'mdom_1',
      version: 1,
      position: 1,
      type: 'DomainAdded',
      schemaVersion: 1,
      data: { name: text, team: text, deadline: text },
      metadata,
      time: '2026-03-01T10:00:00.000Z',
    };
    return presentEntry(recorded, domainEvent(recorded), initialState);
  }),
  'a mailbox': ofText((text) => {
    const view = { id: 'mbx_1', address: text, displayName: text, provider: text, createdAt: new Date(0) };
    return presentNewMailbox(view as never);
  }),
};

describe('what a request or a zone holds is read and shown in time linear in its length', () =>
  itIsLinear(readers, 17, 10, undefined, 3));
